// What a client's script is made of; see ../clients/harness.py.
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

export const BASE_URL = process.env.OPENAI_BASE_URL
export const API_KEY = process.env.OPENAI_API_KEY
export const DEMO = 'demo-chat'
export const REACT = 'react'
export const UPSTREAM = 'upstream'
export const PIXEL =
  'data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

const LONGEST_MS = 20_000
const features = new Map()

export function feature(name, body) {
  if (features.has(name)) throw new Error(`two features named ${name}`)
  features.set(name, body)
}

export function absent(reason, ...names) {
  if (process.argv.length > 2) return
  for (const name of names) tell(name, 'absent', reason)
}

export const unique = (text) => `${text} ${randomUUID()}`

export async function raised(kind, call) {
  try {
    await call()
  } catch (error) {
    if (error instanceof kind) return error
    throw error
  }
  throw new Error(`no ${kind.name}`)
}

async function tooLong() {
  await sleep(LONGEST_MS, undefined, { ref: false })
  throw new Error(`not done after ${LONGEST_MS} ms`)
}

function tell(name, outcome, note = '') {
  process.stdout.write(JSON.stringify({ feature: name, outcome, note }) + '\n')
}

export async function main() {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : [...features.keys()]
  for (const name of wanted) {
    try {
      await Promise.race([features.get(name)(), tooLong()])
      tell(name, 'ok')
    } catch (error) {
      tell(name, 'failed', String(error?.stack ?? error).split('\n').slice(0, 12).join('\n'))
    }
  }
}
