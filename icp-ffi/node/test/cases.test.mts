/** The cases that every language runs alike. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

import { Engine, IcpError, Op, type Document } from 'icp'

// Beside those of the library, where this is run by hand.
const CASES = process.env['ICP_CASES'] ?? new URL('../../tests/cases.json', import.meta.url)

/** A value with what was kept in the place of its names. */
function filled(value: unknown, kept: Map<string, unknown>): any {
  if (typeof value === 'string') return kept.has(value) ? kept.get(value) : value
  if (Array.isArray(value)) return value.map((item) => filled(item, kept))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([name, of]) => [name, filled(of, kept)]))
}

/** Whether all is found that is expected; more members are fine, more items are not. */
function has(found: any, expected: any): boolean {
  if (typeof found !== 'object' || typeof expected !== 'object') return found === expected
  if (found === null || expected === null) return found === expected
  if (Array.isArray(expected) && found.length !== expected.length) return false
  return Object.entries(expected).every(([name, of]) => name in found && has(found[name], of))
}

test('every case is answered as it says', async () => {
  const kept = new Map<string, unknown>()
  const host = await Engine.open({ store: 'memory:', allowLoopback: true })
  for (const one of JSON.parse(await readFile(CASES, 'utf8')) as Document[]) {
    const asked = host.ask(Op[one['op'] as keyof typeof Op], filled(one['input'], kept))
    const [status, answer] = await asked.then(
      (answer) => ['OK', answer],
      (error: IcpError) => [error.details.name, error.details]
    )
    const told = `${one['name']}: ${JSON.stringify(answer)}`
    assert.equal(status, one['status'] ?? 'OK', told)
    if ('answer' in one) assert.ok(has(answer, filled(one['answer'], kept)), told)
    for (const [name, member] of Object.entries(one['keep'] ?? {})) {
      kept.set(`$${name}`, answer[member as string])
    }
  }
  await host.close()
})

test('what is missing in an answer is seen', () => {
  const found = { a: [{ b: 1, c: 2 }], d: null }
  assert.ok(has(found, { a: [{ b: 1 }] }))
  for (const missing of [{ a: [] }, { a: [{ b: 2 }] }, { e: null }, { d: 0 }]) {
    assert.ok(!has(found, missing), JSON.stringify(missing))
  }
})
