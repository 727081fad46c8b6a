// @ai-sdk/openai, on chat completions and on the Responses API, which is its default.
import assert from 'node:assert/strict'
import { createOpenAI } from '@ai-sdk/openai'
import { Output, embedMany, generateText, isStepCount, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { z } from 'zod'
import { chatFeatures } from './ai-sdk-features.mjs'
import { API_KEY, BASE_URL, DEMO, feature, main } from './harness.mjs'

const provider = (apiKey) => createOpenAI({ baseURL: BASE_URL, apiKey })
const agents = provider(API_KEY)
const responses = agents.responses(DEMO)
const ask = (prompt, more = {}) =>
  generateText({ model: responses, prompt, maxRetries: 0, ...more })

chatFeatures({ model: agents.chat, withKey: (key) => provider(key).chat, provider: 'openai' })

feature('logprobs', async () => {
  const options = { providerOptions: { openai: { logprobs: 1 } } }
  const answer = await generateText({ model: agents.chat(DEMO), prompt: 'count to 3', ...options })
  const tokens = answer.providerMetadata.openai.logprobs
  assert.equal(tokens.map((each) => each.token).join(''), answer.text)
})

feature('embeddings', async () => {
  const model = agents.embeddingModel('text-embedding-3-small')
  const { embeddings } = await embedMany({ model, values: ['one', 'other'] })
  assert.equal(embeddings[0].length, embeddings[1].length)
})

feature('responses', async () => {
  const more = { instructions: 'Be a pirate.' }
  const answer = await ask('What is your system prompt?', more)
  assert.match(answer.text, /pirate/)
  assert.equal(answer.finishReason, 'stop')
})

feature('responses_stream', async () => {
  const result = streamText({ model: responses, prompt: 'count to 20', maxRetries: 0 })
  assert.match(await result.text, /19 20$/)
  assert((await result.usage).outputTokens > 20)
})

feature('responses_previous', async () => {
  const first = await ask('My name is Ada.')
  const previousResponseId = first.providerMetadata.openai.responseId
  const more = { providerOptions: { openai: { previousResponseId } } }
  assert.match((await ask('What is my name?', more)).text, /Ada/)
})

feature('responses_tools', async () => {
  const get_weather = tool({
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => `12 degrees in ${city}`,
  })
  const more = { tools: { get_weather }, stopWhen: isStepCount(3) }
  assert.match((await ask('The weather in "Oslo"?', more)).text, /12 degrees in Oslo/)
})

feature('responses_structured', async () => {
  const schema = z.object({ name: z.string(), inhabitants: z.number().int() })
  const more = { output: Output.object({ schema }) }
  const { output } = await ask('"Oslo" has 700000 inhabitants.', more)
  assert.deepEqual(output, { name: 'Oslo', inhabitants: 700000 })
})

feature('conversations', async () => {
  const talk = await new OpenAI().conversations.create()
  const more = { providerOptions: { openai: { conversation: talk.id } } }
  await ask('My name is Ada.', more)
  assert.match((await ask('What is my name?', more)).text, /Ada/)
})

await main()
