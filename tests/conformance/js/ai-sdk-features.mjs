// What is tried with every provider of the AI SDK that speaks OpenAI's wire.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { APICallError, Output, RetryError, generateText, isStepCount, streamText, tool } from 'ai'
import OpenAI from 'openai'
import { z } from 'zod'
import { DEMO, PIXEL, REACT, UPSTREAM, absent, feature, raised, unique } from './harness.mjs'

const City = z.object({ name: z.string(), inhabitants: z.number().int() })
const OSLO = { name: 'Oslo', inhabitants: 700000 }
const TELL = '"Oslo" has 700000 inhabitants.'
const BOTH = 'The weather and the time in "Oslo"?'
const inputSchema = z.object({ city: z.string() })
const WEATHER = tool({ inputSchema, execute: ({ city }) => `12 degrees in ${city}` })
const declared = { get_weather: tool({ inputSchema }), get_time: tool({ inputSchema }) }

const once = { maxRetries: 0 }

async function deltas(result) {
  const found = []
  for await (const part of result.stream) {
    if (part.type === 'error') throw part.error
    if (part.type === 'text-delta') found.push(part.text)
  }
  return found
}

// `model(name)` is a chat model, `withKey(key)(name)` one with another key; `provider` is the name
// of its options.
export function chatFeatures({ model, withKey, provider }) {
  const ask = (prompt, more = {}) =>
    generateText({ model: model(DEMO), prompt, ...once, ...more })
  const stream = (prompt, more = {}) =>
    streamText({ model: model(DEMO), prompt, ...once, onError: () => {}, ...more })
  const refused = async (call) => raised(APICallError, call)

  feature('chat', async () => {
    const answer = await ask('Hello')
    assert.match(answer.text, /Hello/)
    assert.equal(answer.finishReason, 'stop')
    assert.equal(answer.response.modelId, DEMO)
  })

  feature('stream', async () => {
    const found = await deltas(stream('count to 20'))
    assert(found.length > 20)
    assert.match(found.join(''), /19 20$/)
  })

  feature('async', async () => {
    const answers = await Promise.all([...Array(8).keys()].map((n) => ask(`number ${n}`)))
    answers.forEach((answer, n) => assert.match(answer.text, new RegExp(`number ${n}`)))
  })

  feature('usage', async () => {
    const { usage } = await ask('count to 10')
    assert(usage.inputTokens >= 3 && usage.outputTokens >= 10)
  })

  feature('stream_usage', async () => {
    const result = stream('count to 10')
    await deltas(result)
    assert((await result.usage).outputTokens >= 10)
  })

  feature('system', async () => {
    const more = { instructions: 'Be a pirate.' }
    assert.match((await ask('What is your system prompt?', more)).text, /pirate/)
  })

  feature('turns', async () => {
    const first = await ask('My name is Ada.')
    const messages = [
      { role: 'user', content: 'My name is Ada.' },
      ...first.response.messages,
      { role: 'user', content: 'What is my name?' },
    ]
    assert.match((await generateText({ model: model(DEMO), messages, ...once })).text, /Ada/)
  })

  feature('tool_call', async () => {
    const answer = await ask('The weather in "Oslo"?', { tools: declared })
    assert.equal(answer.finishReason, 'tool-calls')
    assert.deepEqual(answer.toolCalls[0].input, { city: 'Oslo' })
  })

  feature('tool_stream', async () => {
    const result = stream(BOTH, { tools: declared })
    await deltas(result)
    const calls = await result.toolCalls
    assert.deepEqual(
      calls.map((call) => [call.toolName, call.input.city]),
      [
        ['get_weather', 'Oslo'],
        ['get_time', 'Oslo'],
      ],
    )
  })

  feature('tool_parallel', async () => {
    const answer = await ask(BOTH, { tools: declared })
    assert.equal(new Set(answer.toolCalls.map((call) => call.toolCallId)).size, 2)
  })

  feature('tool_result', async () => {
    const more = { tools: { get_weather: WEATHER }, stopWhen: isStepCount(3) }
    const answer = await ask('The weather in "Oslo"?', more)
    assert.match(answer.text, /12 degrees in Oslo/)
    assert.equal(answer.steps.length, 2)
    const result = stream('The weather in "Oslo"?', more)
    assert.match((await deltas(result)).join(''), /12 degrees in Oslo/)
  })

  feature('tool_choice', async () => {
    const tools = declared
    const forced = { type: 'tool', toolName: 'get_time' }
    const [call] = (await ask('Hello', { tools, toolChoice: forced })).toolCalls
    assert.equal(call.toolName, 'get_time')
    assert((await ask('Hello', { tools, toolChoice: 'required' })).toolCalls.length > 0)
    assert.equal((await ask('weather', { tools, toolChoice: 'none' })).toolCalls.length, 0)
  })

  feature('agent_tools', async () => {
    const answer = await ask('What is 6 * 7?', { model: model(REACT) })
    assert.match(answer.text, /42/)
    assert.equal(answer.toolCalls.length, 0)
  })

  feature('structured', async () => {
    const { output } = await ask(TELL, { output: Output.object({ schema: City }) })
    assert.deepEqual(output, OSLO)
  })

  feature('structured_stream', async () => {
    const result = stream(TELL, { output: Output.object({ schema: City }) })
    await deltas(result)
    assert.deepEqual(await result.output, OSLO)
  })

  feature('json_object', async () => {
    const { output } = await ask('Say it in JSON', { output: Output.json() })
    assert.equal(typeof output, 'object')
  })

  feature('images', async () => {
    const content = [
      { type: 'text', text: 'Look' },
      { type: 'file', mediaType: 'image/png', data: PIXEL.split(',')[1] },
    ]
    const messages = [{ role: 'user', content }]
    assert.match((await generateText({ model: model(DEMO), messages, ...once })).text, /1 image/)
  })

  feature('length', async () => {
    assert.equal((await ask('count to 50', { maxOutputTokens: 5 })).finishReason, 'length')
  })

  feature('stop', async () => {
    assert.match((await ask('count to 50', { stopSequences: ['7'] })).text, /6\s*$/)
  })

  feature('sampling', async () => {
    const more = { seed: 7, temperature: 0.2, topP: 0.9 }
    assert.equal((await ask('Hello', more)).text, (await ask('Hello', more)).text)
  })

  feature('stored', async () => {
    const answer = await ask(unique('kept'), { providerOptions: { [provider]: { store: true } } })
    const found = await new OpenAI().chat.completions.retrieve(answer.response.id)
    assert.equal(found.choices[0].message.content, answer.text)
  })

  feature('unknown_model', async () => {
    const error = await refused(() => ask('Hello', { model: model('nobody') }))
    assert.equal(error.statusCode, 404)
    assert.equal(error.data.error.code, 'model_not_found')
  })

  feature('bad_key', async () => {
    const error = await refused(() => ask('Hello', { model: withKey('ar_wrong')(DEMO) }))
    assert.equal(error.statusCode, 401)
  })

  feature('bad_request', async () => {
    const error = await refused(() => ask('Hello', { temperature: 9 }))
    assert.equal(error.data.error.param, 'temperature')
  })

  feature('rate_limited', async () => {
    const error = await refused(() => ask('fault:rate-limited', { model: model(UPSTREAM) }))
    assert.equal(error.statusCode, 429)
    assert(error.isRetryable)
  })

  feature('retry', async () => {
    const more = { model: model(UPSTREAM), maxRetries: 2 }
    assert.match((await ask(unique('fault:busy'), more)).text, /fault:busy/)
    const always = () => ask('fault:503', { ...more, maxRetries: 1 })
    await raised(RetryError, always)
  })

  feature('timeout', async () => {
    const began = Date.now()
    await raised(Error, () => ask('fault:slow-headers', { model: model(UPSTREAM), timeout: 500 }))
    assert(Date.now() - began < 3000)
  })

  feature('cancel', async () => {
    const abort = new AbortController()
    const more = { model: model(UPSTREAM), abortSignal: abort.signal }
    const kinds = []
    for await (const part of stream('delay:50 words:200', more).stream) {
      kinds.push(part.type)
      if (part.type === 'text-delta') abort.abort()
    }
    assert.equal(kinds.at(-1), 'abort')
    assert((await ask('Hello', { model: model(UPSTREAM) })).text)
  })

  feature('broken_stream', async () => {
    const result = stream('fault:cut', { model: model(UPSTREAM) })
    let error
    await deltas(result).catch((found) => (error = found))
    assert(error, 'no error')
  })

  feature('session', async () => {
    const more = { headers: { 'X-Session-Id': randomUUID() } }
    await ask('My name is Ada.', more)
    assert.match((await ask('What is my name?', more)).text, /Ada/)
  })

  feature('idempotency', async () => {
    const more = { headers: { 'Idempotency-Key': randomUUID() } }
    const [one, other] = [await ask('Hello', more), await ask('Hello', more)]
    assert.equal(one.response.id, other.response.id)
  })

  absent('The AI SDK asks for one answer at a time.', 'choices')
  absent(
    'The AI SDK leads to no such route.',
    ...['models', 'responses_stored', 'responses_background'],
  )
}
