/** Functions of the host as handlers. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'

import {
  DeliveryFailed,
  type Document,
  Drop,
  type LogLine,
  NotFoundError,
  type RequestContext,
  type SourceBatch,
  type SourceContext
} from 'icp'

import { hostTarget, httpTarget, opened, order, Receiver, until } from './support.mjs'

test('handlers shape and deliver', async () => {
  const delivered: unknown[] = []
  await using host = await opened()
  await host.transformer('enrich', async (event, { config }: RequestContext) => {
    await sleep(0)
    if (event.order === 2) throw new Drop('a test order')
    return { ...event, vat: config.vat }
  })
  await host.target('crm', (event, context) => {
    if (event.order === 3) {
      throw new DeliveryFailed('no such customer', { again: 'impossible', kind: 'customer' })
    }
    delivered.push([event, context.attempt, context.type, context.delivery !== undefined])
    return 201
  })
  const transform = [{ host: { handler: 'enrich', config: { vat: 19 } } }]
  await host.integrations.put('acme', { ...hostTarget('crm'), transform }, { id: 'crm' })
  const states = []
  for (const number of [1, 2, 3]) {
    const { id } = await host.publish(order(number))
    const done = await host.deliveries.wait('acme', { event: id })
    states.push(done[0]?.['state'])
    if (number === 1) {
      const tries = await host.deliveries.attempts('acme', done[0]?.['id'])
      assert.equal(tries.items[0]?.['status'], 201)
    }
  }
  assert.deepEqual(states, ['delivered', 'skipped', 'dead'])
  assert.deepEqual(delivered, [[{ order: 1, vat: 19 }, 1, 'order.paid', true]])
  const letters = await host.deadLetters.list('acme')
  assert.equal(letters.items.length, 1)
  const replayed = await host.deadLetters.replay('acme', [letters.items[0]?.['id']])
  const again: string = replayed['results'][0].delivery.id
  const ended = await host.deliveries.wait('acme', { delivery: again })
  assert.equal(ended[0]?.['state'], 'dead')
})

test('names and kinds are checked, and a handler can be taken away', async () => {
  await using host = await opened()
  const same = (event: unknown) => event
  await assert.rejects(host.transformer('not a name', same), { path: '/name' })
  await host.transformer('same', same)
  await assert.rejects(host.transformer('same', () => 'another'), { code: 'ICP_CONFLICT' })
  const draft = { transform: [{ host: { handler: 'same' } }], sample: { type: 'a.b', data: 'kept' } }
  assert.match(JSON.stringify(await host.dryRun('acme', draft)), /kept/)
  await host.removeHandler('transformer', 'same')
  await assert.rejects(host.removeHandler('transformer', 'same'), NotFoundError)
  assert.match(JSON.stringify(await host.dryRun('acme', draft)), /no_handler/)
})

test('what a handler throws is told with the attempt, its trace with the log', async () => {
  const lines: LogLine[] = []
  await using host = await opened({ log: (line) => lines.push(line) })
  await host.target('crm', () => {
    throw new RangeError('no such customer')
  })
  await host.transformer('nothing', () => undefined)
  await host.integrations.put('acme', hostTarget('crm'), { id: 'crm' })
  const transform = [{ host: { handler: 'nothing' } }]
  await host.integrations.put('acme', { ...hostTarget('crm'), transform }, { id: 'other' })
  const { id } = await host.publish(order(1))
  const told = async (integration: string) => {
    const found = await host.deliveries.list('acme', { event: id, integration })
    const delivery: string = found.items[0]?.['id']
    return (await host.deliveries.attempts('acme', delivery)).items[0]?.['message'] as string
  }
  assert.match(await until(() => told('crm')), /RangeError: no such customer/)
  assert.match(await until(() => told('other')), /TypeError: the transformer returned undefined/)
  const line = await until(() => lines.find((line) => line.message === 'the handler crm failed'))
  assert.match(line.fields['error']!, /handlers\.test/)
})

test('filters decide, and what they do wrong sends nothing', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  await host.filter('large', async (event, { config }: RequestContext) => {
    await sleep(0)
    if (event.order === 3) throw new Drop('a test order')
    if (event.order === 4) throw new RangeError('no such customer')
    if (event.order === 5) return 'yes' as unknown as boolean
    return event.order >= config.least
  })
  const transform = [{ host_filter: { handler: 'large', config: { least: 2 } } }]
  const spec = { ...httpTarget(receiver.url), transform, retry: { max_attempts: 1 } }
  await host.integrations.put('acme', spec, { id: 'crm' })
  const ends: string[] = []
  for (const number of [1, 2, 3, 4, 5]) {
    const { id } = await host.publish(order(number))
    const [done] = await host.deliveries.wait('acme', { event: id })
    const tries = await host.deliveries.attempts('acme', done?.['id'])
    ends.push(`${done?.['state']} ${tries.items[0]?.['message']}`)
  }
  const expected = [
    /^skipped the filter `large` does not let it pass/,
    /^delivered/,
    /^skipped a test order$/,
    /^dead .*RangeError: no such customer/,
    /^dead .*TypeError: the filter returned string/
  ]
  expected.forEach((pattern, index) => assert.match(ends[index]!, pattern))
  assert.deepEqual(receiver.received, [{ order: 2 }])
  const draft = { transform, sample: { type: 'a.b', data: { order: 1 } } }
  assert.match(JSON.stringify(await host.dryRun('acme', draft)), /does not let it pass/)
})

test('a filter that takes too long lets nothing pass', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  let late: AbortSignal | undefined
  await host.filter(
    'slow',
    async (_, { signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      late = signal
      return true
    },
    { timeoutMs: 50 }
  )
  const transform = [{ host_filter: { handler: 'slow' } }]
  const spec = { ...httpTarget(receiver.url), transform, retry: { max_attempts: 1 } }
  await host.integrations.put('acme', spec, { id: 'crm' })
  const { id } = await host.publish(order(1))
  const [done] = await host.deliveries.wait('acme', { event: id })
  await until(() => late)
  const tries = await host.deliveries.attempts('acme', done?.['id'])
  const ended = [done?.['state'], tries.items[0]?.['outcome']]
  assert.deepEqual(ended, ['dead', { failed: 'transform_timeout' }])
  assert.deepEqual(receiver.received, [])
})

test('signers add header fields, and what they do wrong sends nothing', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  const mac = (text: string) => createHmac('sha256', 'ours').update(text).digest('hex')
  await host.signer('vault', async ({ method, url, headers, body }, { config, attempt }) => {
    await sleep(0)
    const { order } = JSON.parse(body.toString())
    if (order === 2) throw new RangeError('the vault is sealed')
    if (order === 3) return { 'Transfer-Encoding': 'chunked' }
    if (order === 4) return 'authorization: none' as unknown as Record<string, string>
    if (order === 5) return { authorization: 7 } as unknown as Record<string, string>
    const signed = `${config.key} ${method} ${url} ${headers['webhook-id']} ${body}`
    return { Authorization: mac(signed), 'x-try': `${attempt}` }
  })
  const auth = { type: 'host', handler: 'vault', config: { key: 'k1' } }
  const spec = { ...httpTarget(receiver.url), auth, retry: { max_attempts: 1 } }
  await host.integrations.put('acme', spec, { id: 'crm' })
  const ends: string[] = []
  let signed = ''
  for (const number of [1, 2, 3, 4, 5]) {
    const { id } = await host.publish(order(number))
    if (number === 1) signed = `k1 POST ${receiver.url} ${id} {"order":1}`
    const [done] = await host.deliveries.wait('acme', { event: id })
    const [attempt] = (await host.deliveries.attempts('acme', done?.['id'])).items
    ends.push(`${done?.['state']} ${attempt?.['outcome']['failed']} ${attempt?.['message']}`)
  }
  const expected = [
    /^delivered/,
    /^dead signer_handler .*RangeError: the vault is sealed/,
    /^dead signer_fields_invalid .*`transfer-encoding`/,
    /^dead signer_handler .*TypeError: the signer returned string/,
    /^dead signer_answer_invalid/
  ]
  expected.forEach((pattern, index) => assert.match(ends[index]!, pattern))
  const [sent, ...others] = receiver.headers
  assert.deepEqual([sent?.authorization, sent?.['x-try']], [mac(signed), '1'])
  assert.deepEqual(others, [])
})

test('event sources are pulled from their checkpoints', async () => {
  await using host = await opened()
  const asked: [unknown, SourceContext][] = []
  await host.eventSource('orders', async (after, context) => {
    asked.push([after, context])
    await sleep(0)
    if (asked.length === 1) throw new RangeError('the table is away')
    if (asked.length === 2) return 'rows' as unknown as SourceBatch
    const first = (after ?? 0) + 1
    if (first > 5) return
    const last = Math.min(first + context.limit - 1, 5)
    const rows = Array.from({ length: last - first + 1 }, (_, index) => first + index)
    const events = rows.map((row) => ({ id: `${row}`, type: 'order.paid', data: { order: row } }))
    return { events, checkpoint: last, more: last < 5 }
  })
  const spec = { type: 'orders', config: { table: 'paid' }, batch: 2, poll_seconds: 1 }
  const sealed = { ...spec, secrets: { password: 'canary' } }
  await host.kind('event_source').put('acme', sealed, { id: 'orders' })
  const path = '/api/v1/organizations/acme/event-sources/orders/progress'
  const failures = new Set<string>()
  const progress = await until(async () => {
    const found = (await host.api('GET', path)) as Document
    if (found['failing']) failures.add(found['failing'].message)
    return found['checkpoint'] === 5 ? found : undefined
  })
  assert.deepEqual([progress['events'], progress['duplicates']], [5, 0])
  assert.match([...failures][0]!, /RangeError: the table is away|TypeError: the source returned/)
  const [after, { org, source, config, limit, secrets }] = asked[0]!
  assert.deepEqual(
    [after, org, source, config, limit, secrets],
    [null, 'acme', 'orders', { table: 'paid' }, 2, { password: 'canary' }]
  )
  assert.ok(!inspect(asked[0]![1]).includes('canary'))
  assert.deepEqual(asked.slice(2, 5).map(([checkpoint]) => checkpoint), [null, 2, 4])
})

test('a signer that takes too long has nothing sent', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  let late: AbortSignal | undefined
  await host.signer(
    'slow',
    async (_, { signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      late = signal
      return { authorization: 'late' }
    },
    { timeoutMs: 50 }
  )
  const auth = { type: 'host', handler: 'slow' }
  const spec = { ...httpTarget(receiver.url), auth, retry: { max_attempts: 1 } }
  await host.integrations.put('acme', spec, { id: 'crm' })
  const { id } = await host.publish(order(1))
  const [done] = await host.deliveries.wait('acme', { event: id })
  await until(() => late)
  const tries = await host.deliveries.attempts('acme', done?.['id'])
  const ended = [done?.['state'], tries.items[0]?.['outcome']]
  assert.deepEqual(ended, ['dead', { failed: 'signer_timeout' }])
  assert.deepEqual(receiver.received, [])
})

test('a handler that takes too long is called off, and its late answer does no harm', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  const attempts: number[] = []
  const late: unknown[] = []
  await host.transformer(
    'slow',
    async (event, { attempt, signal }) => {
      attempts.push(attempt)
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      late.push(signal.reason)
      return event
    },
    { timeoutMs: 50, concurrency: 1 }
  )
  const transform = [{ host: { handler: 'slow' } }]
  await host.integrations.put('acme', { ...httpTarget(receiver.url), transform }, { id: 'crm' })
  await host.publish(order(1))
  await until(() => late.length === 1)
  assert.equal((late[0] as { code: string }).code, 'ICP_CANCELLED')
  await host.health()
  assert.deepEqual([attempts[0], receiver.received], [1, []])
})

test('an engine that is closed calls its handlers off', async () => {
  const host = await opened()
  const begun = new Promise<AbortSignal>((resolve) => {
    void host.target('crm', async (_, { signal }) => {
      resolve(signal)
      await new Promise((end) => signal.addEventListener('abort', end))
    })
  })
  await host.integrations.put('acme', hostTarget('crm'), { id: 'crm' })
  await host.publish(order(1))
  const signal = await begun
  assert.equal(signal.aborted, false)
  await host.close({ drainMs: 0 })
  assert.equal(signal.aborted, true)
})
