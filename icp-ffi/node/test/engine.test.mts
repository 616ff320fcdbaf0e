/** The engine as a host uses it. */
import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import * as icp from 'icp'

import { errorOf } from '../dist/errors.js'
import { Link } from '../dist/link.js'
import { Subscription } from '../dist/subscription.js'
import { hostTarget, httpTarget, opened, order, Receiver, until } from './support.mjs'

test('an event reaches the receiver', async () => {
  await using receiver = await Receiver.start()
  await using host = await opened()
  await host.integrations.put('acme', httpTarget(receiver.url), { id: 'crm' })
  const published = await host.publish(order(17))
  assert.equal(published.deliveries, 1)
  const done = await host.deliveries.wait('acme', { event: published.id })
  assert.equal(done[0]?.['state'], 'delivered')
  assert.deepEqual(receiver.received, [{ order: 17 }])
  const id: string = done[0]?.['id']
  assert.equal((await host.deliveries.get('acme', id))['id'], id)
  assert.equal((await host.deliveries.attempts('acme', id)).items[0]?.['status'], 200)
  const again = await host.deliveries.retry('acme', id)
  await host.deliveries.wait('acme', { delivery: again['id'] })
  assert.equal(receiver.received.length, 2)
  assert.equal((await host.deliveries.list('acme')).items.length, 2)
  assert.deepEqual((await host.event('acme', published.id))['data'], { order: 17 })
  assert.equal((await host.explain('acme', published.id))['integrations'].length, 1)
  assert.equal((await host.health())['ready'], true)
  assert.match(await host.metrics(), /icp_/)
})

test('resources are made, changed, listed and deleted', async () => {
  await using host = await opened()
  const made = await host.integrations.put('acme', httpTarget('http://127.0.0.1:9/'), {
    id: 'crm',
    name: 'our CRM',
    labels: { team: 'sales' }
  })
  assert.equal(made['name'], 'our CRM')
  const { revision } = made as { revision: number }
  const other = httpTarget('http://127.0.0.1:9/b')
  await host.integrations.put('acme', other, { id: 'crm', revision })
  const stale = host.integrations.put('acme', other, { id: 'crm', revision })
  await assert.rejects(stale, { name: 'ConflictError', cause: 'revision_conflict' })
  assert.equal((await host.integrations.get('acme', 'crm'))['version'], 2)
  const listed = await host.kind('integration').list('acme', { limit: 5 })
  assert.deepEqual(listed.items.map((item) => item['id']), ['crm'])
  await host.integrations.delete('acme', 'crm')
  await assert.rejects(host.integrations.get('acme', 'crm'), icp.NotFoundError)
  assert.equal((await host.organizations.get('acme'))['id'], 'acme')
  const query = { limit: 1 }
  const audit = await host.api('GET', '/api/v1/organizations/acme/audit', { query })
  assert.equal(audit.items[0].actor.name, 'host')
  const transform = [{ map: { remove: ['secret'] } }]
  const sample = { type: 'a.b', data: { secret: 1, kept: 2 } }
  assert.match(JSON.stringify(await host.dryRun('acme', { transform, sample })), /kept/)
})

test('text and bytes are published as they are, and many at once', async () => {
  await using host = await opened()
  const text = '{"org":"acme","type":"a.b","data":"größer"}'
  for (const event of [text, Buffer.from(text)]) {
    const { id } = await host.publish(event)
    assert.equal((await host.event('acme', id))['data'], 'größer')
  }
  const events = [order(1), { org: 'acme' }, order(2)] as icp.NewEvent[]
  const [first, second, third] = await host.publishMany(events)
  assert.ok('id' in first! && 'id' in third!)
  assert.ok('error' in second! && second.error['name'] === 'INVALID')
})

test('each failure is an error of its kind', async () => {
  await assert.rejects(icp.Engine.open({ store: 'nowhere:' }), {
    name: 'InvalidError',
    code: 'ICP_INVALID',
    path: '/store',
    retryable: false
  })
  const host = await opened({ maxInFlight: 1 })
  await assert.rejects(host.ask(icp.Op.START), icp.ConflictError)
  await assert.rejects(host.publish({ ...order(1), org: 'nobody' }), {
    name: 'NotFoundError',
    code: 'ICP_NOT_FOUND',
    cause: 'organization_unknown'
  })
  await assert.rejects(host.ask(4_711 as icp.Op), icp.UnsupportedError)
  await assert.rejects(host.publish('{'), icp.InvalidError)
  await host.integrations.put('acme', hostTarget('nobody'), { id: 'crm' })
  const { id } = await host.publish(order(1))
  const late = host.deliveries.wait('acme', { event: id, timeoutMs: 1 })
  await assert.rejects(late, { name: 'IcpTimeoutError', code: 'ICP_TIMEOUT', retryable: true })
  const busy = await Promise.allSettled([host.health(), host.health()])
  const reasons = busy.map((one) => (one.status === 'rejected' ? one.reason.code : 'fine'))
  assert.deepEqual(reasons, ['fine', 'ICP_BUSY'])
  await host.close({ drainMs: 0 })
  await assert.rejects(host.publish(order(1)), icp.ClosedError)
  assert.deepEqual(await host.close(), await host.close(), 'it is closed once')
})

test('every status has an error with its code', () => {
  for (const [name, status] of Object.entries(icp.Status)) {
    if (status === icp.Status.OK) continue
    const error = errorOf(status, '')
    assert.equal(error.code, `ICP_${name}`)
    assert.equal(error.status, status)
    assert.ok(error instanceof icp.IcpError && error.constructor !== icp.IcpError, name)
  }
  assert.equal(errorOf(77, 'no document').constructor, icp.InternalError)
})

test('a wait that is aborted is called off, and a publish is not', async () => {
  await using host = await opened()
  await host.integrations.put('acme', hostTarget('nobody'), { id: 'crm' })
  const { id } = await host.publish(order(1))
  const abort = new AbortController()
  const waiting = host.deliveries.wait('acme', { event: id, signal: abort.signal })
  const publishing = host.publish(order(2), { signal: abort.signal })
  abort.abort(new Error('enough'))
  await assert.rejects(waiting, { message: 'enough' })
  await assert.rejects(publishing, { message: 'enough' })
  await assert.rejects(host.publish(order(3), { signal: abort.signal }), { message: 'enough' })
  const listed = () => host.ask(icp.Op.EVENT_LIST, { org: 'acme' })
  // What was handed over is stored, what was aborted before is not.
  await until(async () => (await listed()).items.length === 2)
})

test('changes are followed until it is enough', async () => {
  await using host = await opened()
  const target = httpTarget('http://127.0.0.1:9/')
  const changes = await host.follow('acme', { stream: 'changes' })
  for (const id of ['one', 'two']) await host.integrations.put('acme', target, { id })
  const seen: string[] = []
  for await (const change of changes) {
    if (seen.push(change['id']) === 2) break
  }
  assert.deepEqual(seen, ['one', 'two'])
  assert.equal((await changes.next()).done, true)
  const abort = new AbortController()
  const { signal } = abort
  const others = await host.follow('acme', { stream: 'changes', signal })
  const next = others.next()
  abort.abort(new Error('enough'))
  await assert.rejects(next, { message: 'enough' })
  await assert.rejects(host.follow('acme', { signal }), { message: 'enough' })
  await assert.rejects(host.follow('acme', { after: 'nonsense' }), icp.InvalidError)
  const last = (await host.follow('acme')).next()
  await host.close()
  assert.equal((await last).done, true)
})

test('a reader that is too slow is told what it missed', async () => {
  let unsubscribed = 0
  // What is put in is none of the host's business, so the types do not have it.
  const followed = new (Subscription as any)(() => (unsubscribed += 1))
  const item = (number: number) => JSON.stringify({ item: { number }, cursor: 'x' })
  for (let number = 0; number < 1_030; number++) {
    followed.push({ tag: 1, kind: 4, status: 0, body: item(number) })
  }
  followed.push({ tag: 1, kind: 6, status: 0, body: '{"dropped":4}' })
  for (let number = 0; number < 1_024; number++) {
    assert.deepEqual(await followed.next(), { value: { number }, done: false })
  }
  await assert.rejects(followed.next(), { name: 'Lagged', dropped: 10 })
  assert.equal(unsubscribed, 1)
})

test('more than may be under way waits for room', async () => {
  await using host = await opened({ maxInFlight: 8 })
  const all = Array.from({ length: 200 }, (_, number) => host.publish(order(number)))
  const ids = new Set((await Promise.all(all)).map((published) => published.id))
  assert.equal(ids.size, 200)
})

test('a system without descriptors is served by another thread', async (context) => {
  context.mock.method(Link.prototype, 'fd', () => -1)
  await using host = await opened()
  await host.transformer('same', (event) => event)
  const draft = { transform: [{ host: { handler: 'same' } }], sample: { type: 'a.b', data: 7 } }
  assert.match(JSON.stringify(await host.dryRun('acme', draft)), /7/)
  const large = { ...order(1), data: 'x'.repeat(200_000) }
  const { id } = await host.publish(large)
  assert.equal((await host.event('acme', id))['data'].length, 200_000)
})

test('the event loop goes on while events are stored', async () => {
  await using host = await opened()
  let worst = 0
  let last = performance.now()
  const ticking = setInterval(() => {
    worst = Math.max(worst, performance.now() - last)
    last = performance.now()
  }, 1)
  await Promise.all(Array.from({ length: 500 }, (_, number) => host.publish(order(number))))
  clearInterval(ticking)
  // A call that blocked the loop until all were stored would be far beyond.
  assert.ok(worst < 5_000, `${worst} ms`)
})

test('the log is told, and what it throws keeps nothing back', async (context) => {
  const lines: icp.LogLine[] = []
  const rethrown = context.mock.method(globalThis, 'queueMicrotask', () => {})
  await using host = await opened({
    log: (line) => {
      lines.push(line)
      throw new Error('a defect of the log')
    }
  })
  await host.health()
  await until(() => lines.some((line) => line.message === 'the engine runs'))
  assert.ok(lines.every((line) => line.level !== 'debug' && line.level !== 'trace'))
  const [thrown] = rethrown.mock.calls[0]!.arguments
  assert.throws(thrown as () => void, { message: 'a defect of the log' })
})

test('what was published is there again, and engines leave nothing behind', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'icp-'))
  const settings = { store: `sqlite:${folder}/icp.db`, keyFile: `${folder}/icp.key`, threads: 1 }
  const state = async () => [
    (await readdir('/proc/self/task')).length,
    (await readdir('/proc/self/fd')).length
  ]
  const host = await opened(settings)
  const { id } = await host.publish(order(1))
  const { sql, values } = await host.outbox({ ...order(2), idempotency_key: 'two' })
  assert.match(sql, /^INSERT INTO icp_outbox/)
  assert.equal(sql.split('?').length - 1, values.length)
  assert.ok(values.some((value) => Buffer.isBuffer(value) && `${value}` === '{"order":2}'))
  await host.close()
  const before = await state()
  for (let turn = 0; turn < 10; turn++) {
    await using again = await icp.Engine.open(settings)
    assert.deepEqual((await again.event('acme', id))['data'], { order: 1 })
  }
  // Threads end a moment after their engine was closed.
  await until(async () => {
    const [threads, descriptors] = await state()
    return threads! <= before[0]! && descriptors! <= before[1]!
  })
  await rm(folder, { recursive: true })
})
