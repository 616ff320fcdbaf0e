/** Publishing in the host's own transaction, by the libraries that hosts use. */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import * as icp from 'icp'

import { Database } from './databases.mjs'
import { libraries, type Transaction } from './drivers.mjs'
import { httpTarget, opened, order, Receiver, until } from './support.mjs'

// What a driver might take for a placeholder, an escape or the end of a text.
const ODD = '% %s $1 ? :a \\ \' "'
const DATA = { text: `Größe \u{1f4e6} ${ODD} \n \0`, list: [null, true, 1.5, { '': 2 ** 53 }] }

/** An event with all that is a text, a number or bytes in the statement. */
function sale(number: number): icp.NewEvent {
  const text = `${ODD} ${number}`
  const texts = { idempotency_key: text, ordering_key: text, subject: text }
  return { ...order(number), data: { order: number, ...DATA }, ttl_seconds: 3_600, ...texts }
}

const withdrawn = new Error('the host gives its transaction up')

for (const kind of ['postgres', 'mysql'] as const) {
  test(`what commits on ${kind} is published and what rolls back is not`, async () => {
    await using shop = await Database.create(kind)
    await using receiver = await Receiver.start()
    await using host = await opened({ store: shop.url })
    await host.integrations.put('acme', httpTarget(receiver.url), { id: 'crm' })
    await shop.column('CREATE TABLE orders (number INTEGER PRIMARY KEY)')
    const committed = new Map<number, string>()
    const others: string[] = []
    // Of three orders by each library, the second is withdrawn.
    for (const [at, transaction] of Object.values<Transaction>(libraries[kind]).entries()) {
      for (const number of [3 * at, 3 * at + 1, 3 * at + 2]) {
        const insert = await host.outbox(sale(number))
        if (number === 3 * at + 1) {
          const refused = transaction(shop.url, number, insert, () => {
            throw withdrawn
          })
          await assert.rejects(refused, (error) => error === withdrawn)
          others.push(insert.id)
        } else {
          await transaction(shop.url, number, insert, () => {})
          committed.set(number, insert.id)
        }
      }
    }
    for (const [number, id] of committed) {
      await delivered(host, id)
      const stored = await host.event('acme', id)
      const sold = sale(number)
      for (const member of ['data', 'idempotency_key', 'ordering_key', 'subject']) {
        assert.deepEqual(stored[member], sold[member], `${kind} ${number}`)
      }
    }
    // These would have been taken over before those that came later.
    for (const id of others) await assert.rejects(host.event('acme', id), icp.NotFoundError)
    const numbers = [...committed.keys()]
    const received = receiver.received as { order: number }[]
    received.sort((one, other) => one.order - other.order)
    assert.deepEqual(received, numbers.map((number) => sale(number).data))
    assert.deepEqual(await shop.column('SELECT number FROM orders ORDER BY number'), numbers)
  })
}

async function delivered(host: icp.Engine, id: string): Promise<void> {
  const done = await until(async () => {
    try {
      return await host.deliveries.wait('acme', { event: id })
    } catch (error) {
      // It is taken over from the outbox a moment after the commit.
      if (error instanceof icp.NotFoundError) return undefined
      throw error
    }
  })
  assert.equal(done[0]?.['state'], 'delivered')
}

test('what is wrong is refused before the transaction', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'icp-'))
  const store = `sqlite:${folder}/icp.db`
  await using host = await opened({ store, keyFile: `${folder}/icp.key` })
  const refused = (change: object, error: object) =>
    assert.rejects(host.outbox({ ...order(1), ...change }), error)
  await refused({ ordering_key: 'Größe' }, { name: 'InvalidError', path: '/ordering_key' })
  await refused({ type: 'no type' }, { name: 'InvalidError', cause: 'event_type_invalid' })
  await refused({ org: 'nobody' }, { name: 'NotFoundError', cause: 'organization_unknown' })
  await host.close()
  await rm(folder, { recursive: true })
})

test('a store without an outbox says so', async () => {
  await using host = await opened()
  await assert.rejects(host.outbox(order(1)), icp.UnsupportedError)
})
