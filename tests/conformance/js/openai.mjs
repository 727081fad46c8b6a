// The official SDK.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import OpenAI from 'openai'
import { LengthFinishReasonError } from 'openai/core/error'
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'
import { DEMO, PIXEL, REACT, UPSTREAM, feature, main, raised, unique } from './harness.mjs'

const client = new OpenAI({ maxRetries: 0, timeout: 30_000 })
const { completions } = client.chat
const City = z.object({ name: z.string(), inhabitants: z.number().int() })
const OSLO = { name: 'Oslo', inhabitants: 700000 }
const parameters = {
  type: 'object',
  properties: { city: { type: 'string' } },
  required: ['city'],
  additionalProperties: false,
}
const WEATHER = { type: 'function', function: { name: 'get_weather', parameters } }
const TIME = { type: 'function', function: { name: 'get_time', parameters } }
const BOTH = 'The weather and the time in "Oslo"?'

const user = (content) => ({ role: 'user', content })
const ask = (text, more = {}, options = {}) =>
  completions.create({ model: DEMO, messages: [user(text)], ...more }, options)
const said = (answer) => answer.choices[0].message.content

async function all(stream) {
  const found = []
  for await (const each of stream) found.push(each)
  return found
}

feature('chat', async () => {
  const answer = await ask('Hello')
  assert.equal(answer.object, 'chat.completion')
  assert.equal(answer.model, DEMO)
  assert.match(said(answer), /Hello/)
  assert.equal(answer.choices[0].finish_reason, 'stop')
})

feature('stream', async () => {
  const chunks = await all(await ask('count to 20', { stream: true }))
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('')
  assert.match(text, /18 19 20$/)
  assert(chunks.length > 20)
  const events = completions.stream({ model: DEMO, messages: [user('count to 3')] })
  assert.match(await events.finalContent(), /1 2 3$/)
})

feature('async', async () => {
  const answers = await Promise.all([...Array(8).keys()].map((n) => ask(`number ${n}`)))
  answers.forEach((answer, n) => assert.match(said(answer), new RegExp(`number ${n}`)))
})

feature('usage', async () => {
  const { usage } = await ask('count to 10')
  assert(usage.prompt_tokens >= 3 && usage.completion_tokens >= 10)
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
})

feature('stream_usage', async () => {
  const more = { stream: true, stream_options: { include_usage: true } }
  const chunks = await all(await ask('count to 10', more))
  const last = chunks.pop()
  assert.deepEqual(last.choices, [])
  assert(last.usage.completion_tokens >= 10)
  assert(chunks.every((chunk) => chunk.usage === null))
})

feature('system', async () => {
  for (const role of ['system', 'developer']) {
    const messages = [
      { role, content: 'Speak like a pirate.' },
      user('What is your system prompt?'),
    ]
    assert.match(said(await completions.create({ model: DEMO, messages })), /pirate/)
  }
})

feature('turns', async () => {
  const messages = [user('My name is Ada.')]
  messages.push((await completions.create({ model: DEMO, messages })).choices[0].message)
  messages.push(user('What is my name?'))
  assert.match(said(await completions.create({ model: DEMO, messages })), /Ada/)
})

feature('tool_call', async () => {
  const [choice] = (await ask('The weather in "Oslo"?', { tools: [WEATHER] })).choices
  assert.equal(choice.finish_reason, 'tool_calls')
  assert.deepEqual(JSON.parse(choice.message.tool_calls[0].function.arguments), { city: 'Oslo' })
})

feature('tool_stream', async () => {
  const events = completions.stream({
    model: DEMO,
    messages: [user(BOTH)],
    tools: [WEATHER, TIME],
  })
  const { tool_calls: calls } = (await events.finalChatCompletion()).choices[0].message
  assert.deepEqual(
    calls.map((call) => call.function.name),
    ['get_weather', 'get_time'],
  )
  for (const call of calls) assert.deepEqual(JSON.parse(call.function.arguments), { city: 'Oslo' })
})

feature('tool_parallel', async () => {
  const tools = [WEATHER, TIME]
  const calls = (await ask(BOTH, { tools })).choices[0].message.tool_calls
  assert.equal(new Set(calls.map((call) => call.id)).size, 2)
  const one = await ask(BOTH, { tools, parallel_tool_calls: false })
  assert.equal(one.choices[0].message.tool_calls.length, 1)
})

feature('tool_result', async () => {
  const run = {
    name: 'get_weather',
    parameters,
    parse: JSON.parse,
    function: ({ city }) => `12 degrees in ${city}`,
  }
  const runner = completions.runTools({
    model: DEMO,
    messages: [user('The weather in "Oslo"?')],
    tools: [{ type: 'function', function: run }],
  })
  assert.match(await runner.finalContent(), /12 degrees in Oslo/)
})

feature('tool_choice', async () => {
  const tools = [WEATHER, TIME]
  const forced = { type: 'function', function: { name: 'get_time' } }
  const [call] = (await ask('Hello', { tools, tool_choice: forced })).choices[0].message.tool_calls
  assert.equal(call.function.name, 'get_time')
  const required = await ask('Hello', { tools, tool_choice: 'required' })
  assert.equal(required.choices[0].finish_reason, 'tool_calls')
  const none = await ask('weather', { tools, tool_choice: 'none' })
  assert.equal(none.choices[0].finish_reason, 'stop')
})

feature('agent_tools', async () => {
  const [choice] = (await ask('What is 6 * 7?', { model: REACT })).choices
  assert.match(choice.message.content, /42/)
  assert.equal(choice.message.tool_calls, undefined)
})

feature('structured', async () => {
  const answer = await completions.parse({
    model: DEMO,
    messages: [user('"Oslo" has 700000 inhabitants.')],
    response_format: zodResponseFormat(City, 'city'),
  })
  assert.deepEqual(answer.choices[0].message.parsed, OSLO)
})

feature('structured_stream', async () => {
  const events = completions.stream({
    model: DEMO,
    messages: [user('"Oslo" has 700000 inhabitants.')],
    response_format: zodResponseFormat(City, 'city'),
  })
  assert.deepEqual((await events.finalChatCompletion()).choices[0].message.parsed, OSLO)
})

feature('json_object', async () => {
  const answer = await ask('Say it in JSON', { response_format: { type: 'json_object' } })
  assert.equal(typeof JSON.parse(said(answer)), 'object')
})

feature('images', async () => {
  const content = [
    { type: 'text', text: 'Look' },
    { type: 'image_url', image_url: { url: PIXEL } },
  ]
  assert.match(said(await ask(content)), /1 image/)
})

feature('length', async () => {
  const answer = await ask('count to 50', { max_completion_tokens: 5 })
  assert.equal(answer.choices[0].finish_reason, 'length')
  const call = () =>
    completions.parse({
      model: DEMO,
      messages: [user('Oslo')],
      response_format: zodResponseFormat(City, 'city'),
      max_completion_tokens: 1,
    })
  await raised(LengthFinishReasonError, call)
})

feature('stop', async () => {
  const [choice] = (await ask('count to 50', { stop: ['7'] })).choices
  assert.match(choice.message.content, /6\s*$/)
  assert.equal(choice.finish_reason, 'stop')
})

feature('logprobs', async () => {
  const [choice] = (await ask('count to 3', { logprobs: true, top_logprobs: 1 })).choices
  const text = choice.logprobs.content.map((each) => each.token).join('')
  assert.equal(text, choice.message.content)
})

feature('choices', async () => {
  const answer = await ask('Hello', { n: 3 })
  assert.deepEqual(
    answer.choices.map((choice) => choice.index),
    [0, 1, 2],
  )
})

feature('sampling', async () => {
  const more = { seed: 7, temperature: 0.2, top_p: 0.9 }
  assert.equal(said(await ask('Hello', more)), said(await ask('Hello', more)))
})

feature('stored', async () => {
  const kept = unique('kept')
  const made = await ask(kept, { store: true, metadata: { topic: kept } })
  assert.equal(said(await completions.retrieve(made.id)), said(made))
  const listed = await all(completions.list({ metadata: { topic: kept } }))
  assert.deepEqual(
    listed.map((each) => each.id),
    [made.id],
  )
  assert.equal((await all(completions.messages.list(made.id)))[0].content, kept)
  const updated = await completions.update(made.id, { metadata: { topic: 'new' } })
  assert.deepEqual(updated.metadata, { topic: 'new' })
  assert((await completions.delete(made.id)).deleted)
  await raised(OpenAI.NotFoundError, () => completions.retrieve(made.id))
})

feature('unknown_model', async () => {
  const error = await raised(OpenAI.NotFoundError, () => ask('Hello', { model: 'nobody' }))
  assert.equal(error.code, 'model_not_found')
  assert(error.requestID)
})

feature('bad_key', async () => {
  const stranger = new OpenAI({ apiKey: 'ar_wrong', maxRetries: 0 })
  await raised(OpenAI.AuthenticationError, () => stranger.models.list())
})

feature('bad_request', async () => {
  const error = await raised(OpenAI.BadRequestError, () => ask('Hello', { temperature: 9 }))
  assert.equal(error.param, 'temperature')
})

feature('rate_limited', async () => {
  const call = () => ask('fault:rate-limited', { model: UPSTREAM })
  const error = await raised(OpenAI.RateLimitError, call)
  assert(error.headers.get('retry-after'))
})

feature('retry', async () => {
  const answer = await ask(unique('fault:busy'), { model: UPSTREAM }, { maxRetries: 2 })
  assert.match(said(answer), /fault:busy/)
})

feature('timeout', async () => {
  const call = () => ask('fault:slow-headers', { model: UPSTREAM }, { timeout: 500 })
  await raised(OpenAI.APIConnectionTimeoutError, call)
})

feature('cancel', async () => {
  const stream = await ask('delay:50 words:200', { model: UPSTREAM, stream: true })
  let count = 0
  for await (const _ of stream) if (++count === 3) break
  assert(stream.controller.signal.aborted)
  const abort = new AbortController()
  const asked = ask('fault:slow-headers', { model: UPSTREAM }, { signal: abort.signal })
  setTimeout(() => abort.abort(), 100)
  await raised(OpenAI.APIUserAbortError, () => asked)
  assert(said(await ask('Hello', { model: UPSTREAM })))
})

feature('broken_stream', async () => {
  const call = async () => all(await ask('fault:cut', { model: UPSTREAM, stream: true }))
  assert.equal((await raised(OpenAI.APIError, call)).code, 'upstream_error')
})

feature('models', async () => {
  const ids = (await all(client.models.list())).map((model) => model.id)
  assert(ids.includes(DEMO))
  assert.equal((await client.models.retrieve(DEMO)).id, DEMO)
  await raised(OpenAI.NotFoundError, () => client.models.retrieve('nobody'))
})

feature('embeddings', async () => {
  const model = 'text-embedding-3-small'
  const { data } = await client.embeddings.create({ model, input: ['one', 'other'] })
  assert.equal(data[0].embedding.length, data[1].embedding.length)
  assert.notDeepEqual(data[0].embedding, data[1].embedding)
  const short = await client.embeddings.create({ model, input: 'one', dimensions: 8 })
  assert.equal(short.data[0].embedding.length, 8)
})

feature('responses', async () => {
  const answer = await client.responses.create({
    model: DEMO,
    instructions: 'Speak like a pirate.',
    input: 'What is your system prompt?',
  })
  assert.equal(answer.status, 'completed')
  assert.match(answer.output_text, /pirate/)
})

feature('responses_stream', async () => {
  const stream = await client.responses.create({ model: DEMO, input: 'count to 20', stream: true })
  const events = await all(stream)
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    [...events.keys()],
  )
  const deltas = events.filter((event) => event.type === 'response.output_text.delta')
  assert.match(deltas.map((event) => event.delta).join(''), /19 20$/)
  const streamed = client.responses.stream({ model: DEMO, input: 'count to 3' })
  assert.match((await streamed.finalResponse()).output_text, /1 2 3$/)
})

feature('responses_previous', async () => {
  const first = await client.responses.create({ model: DEMO, input: 'My name is Ada.' })
  const second = await client.responses.create({
    model: DEMO,
    input: 'What is my name?',
    previous_response_id: first.id,
  })
  assert.match(second.output_text, /Ada/)
})

feature('responses_tools', async () => {
  const tools = [{ type: 'function', strict: true, name: 'get_weather', parameters }]
  const input = 'The weather in "Oslo"?'
  const asked = await client.responses.create({ model: DEMO, input, tools })
  const call = asked.output.find((item) => item.type === 'function_call')
  assert.deepEqual(JSON.parse(call.arguments), { city: 'Oslo' })
  const answer = await client.responses.create({
    model: DEMO,
    input: [{ type: 'function_call_output', call_id: call.call_id, output: '12 degrees' }],
    tools,
    previous_response_id: asked.id,
  })
  assert.match(answer.output_text, /12 degrees/)
})

feature('responses_structured', async () => {
  const answer = await client.responses.parse({
    model: DEMO,
    input: '"Oslo" has 700000 inhabitants.',
    text: { format: zodTextFormat(City, 'city') },
  })
  assert.deepEqual(answer.output_parsed, OSLO)
})

feature('responses_background', async () => {
  let made = await client.responses.create({ model: DEMO, input: 'count to 5', background: true })
  for (let n = 0; n < 100 && ['queued', 'in_progress'].includes(made.status); n++) {
    await sleep(100)
    made = await client.responses.retrieve(made.id)
  }
  assert.equal(made.status, 'completed')
  const input = 'delay:100 words:100'
  const slow = await client.responses.create({ model: UPSTREAM, input, background: true })
  assert.equal((await client.responses.cancel(slow.id)).status, 'cancelled')
})

feature('responses_stored', async () => {
  const made = await client.responses.create({ model: DEMO, input: 'Hello' })
  assert.equal((await client.responses.retrieve(made.id)).output_text, made.output_text)
  const [item] = await all(client.responses.inputItems.list(made.id))
  assert.equal(item.content[0].text, 'Hello')
  await client.responses.delete(made.id)
  await raised(OpenAI.NotFoundError, () => client.responses.retrieve(made.id))
})

feature('conversations', async () => {
  const talk = await client.conversations.create({
    items: [{ type: 'message', role: 'user', content: 'My name is Ada.' }],
  })
  const input = 'What is my name?'
  const answer = await client.responses.create({ model: DEMO, input, conversation: talk.id })
  assert.match(answer.output_text, /Ada/)
  const items = await all(client.conversations.items.list(talk.id, { order: 'asc' }))
  assert.deepEqual(
    items.map((item) => item.role),
    ['user', 'user', 'assistant'],
  )
  assert((await client.conversations.delete(talk.id)).deleted)
})

feature('session', async () => {
  const options = { headers: { 'X-Session-Id': randomUUID() } }
  await ask('My name is Ada.', {}, options)
  assert.match(said(await ask('What is my name?', {}, options)), /Ada/)
})

feature('idempotency', async () => {
  const options = { headers: { 'Idempotency-Key': randomUUID() }, maxRetries: 5 }
  const answers = await Promise.all([1, 2, 3, 4].map(() => ask('Hello', {}, options)))
  assert.equal(new Set(answers.map((answer) => answer.id)).size, 1)
  await raised(OpenAI.UnprocessableEntityError, () => ask('Other', {}, options))
})

await main()
