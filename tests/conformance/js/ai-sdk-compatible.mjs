// @ai-sdk/openai-compatible.
import assert from 'node:assert/strict'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { embedMany } from 'ai'
import { chatFeatures } from './ai-sdk-features.mjs'
import { API_KEY, BASE_URL, absent, feature, main } from './harness.mjs'

const provider = (apiKey) =>
  createOpenAICompatible({
    name: 'agents',
    baseURL: BASE_URL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  })
const agents = provider(API_KEY)

chatFeatures({ model: agents, withKey: provider, provider: 'agents' })

feature('embeddings', async () => {
  const model = agents.embeddingModel('text-embedding-3-small')
  const { embeddings } = await embedMany({ model, values: ['one', 'other'] })
  assert.equal(embeddings[0].length, embeddings[1].length)
})

absent('This provider has no such option.', 'logprobs')
absent(
  'This provider speaks chat completions only.',
  ...['responses', 'responses_stream', 'responses_previous', 'responses_tools'],
  ...['responses_structured', 'conversations'],
)
await main()
