/** Processes and threads that end as they should, and as they should not. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'

import { Engine, Op } from 'icp'

import { opened, order } from './support.mjs'

const TIMES = 20
const run = promisify(execFile)

/** Runs a program as a process of its own, as a module or not. */
function program(source: string, ...flags: string[]) {
  return run(process.execPath, [...flags, '--eval', source], { cwd: import.meta.dirname, timeout: 60_000 })
}

const OPENED = `
  const { Engine } = require('icp')
  let begun = Engine.open({ store: 'memory:', threads: 1 }).then(async (host) => {
    await host.organizations.put('acme')
    return host
  })
  const event = { org: 'acme', type: 'a.b', data: 1 }`

test('a process that exits with work in flight keeps its code', async () => {
  const source = `${OPENED}
    begun.then(async (host) => {
      await host.target('never', () => new Promise(() => {}))
      const target = { kind: 'host', handler: 'never' }
      await host.integrations.put('acme', { events: ['a.*'], target }, { id: 'crm' })
      for (let turn = 0; turn < 50; turn++) host.publish(event)
      host.close()
      process.exit(7)
    })`
  for (let turn = 0; turn < TIMES; turn += 2) {
    const both = await Promise.allSettled([program(source), program(source)])
    for (const ended of both) {
      assert.equal(ended.status, 'rejected')
      const { code, signal, stderr } = ended.reason
      assert.deepEqual([code, signal, stderr], [7, null, ''])
    }
  }
})

test('a process ends by itself when nothing is waited for, and not before', async () => {
  const closed = `${OPENED}
    begun.then(async (host) => {
      console.log((await host.publish(event)).duplicate, (await host.close()).unsettled)
    })`
  assert.equal((await program(closed)).stdout, 'false 0\n')
  const idle = `${OPENED}\nbegun.then(() => console.log('idle'))`
  assert.equal((await program(idle)).stdout, 'idle\n')
  const pending = `${OPENED}
    begun.then(async (host) => {
      const failed = (error) => console.log(error.code)
      const target = { kind: 'host', handler: 'nobody' }
      await host.integrations.put('acme', { events: ['a.*'], target }, { id: 'crm' })
      const { id } = await host.publish(event)
      host.deliveries.wait('acme', { event: id, timeoutMs: 300 }).catch(failed)
    })`
  assert.equal((await program(pending)).stdout, 'ICP_TIMEOUT\n')
  const held = `${OPENED}
    begun.then(async (host) => {
      await host.transformer('same', (event) => event)
      setTimeout(() => {
        console.log('held')
        host.removeHandler('transformer', 'same')
      }, 300).unref()
    })`
  assert.equal((await program(held)).stdout, 'held\n')
})

test('an engine that is forgotten is stopped with a warning', async () => {
  const source = `${OPENED}
    process.on('warning', (warning) => {
      console.log(warning.code)
      clearInterval(turning)
    })
    const turning = setInterval(() => gc(), 1)
    begun.then((host) => host.publish(event))
    begun = undefined`
  const ended = await program(source, '--expose-gc', '--no-warnings')
  assert.equal(ended.stdout, 'ICP_NOT_CLOSED\n')
})

const PUBLISHER = `
  const { Engine } = require('icp')
  const [store, first] = process.argv.slice(1)
  Engine.open({ store: 'sqlite:' + store, threads: 1 }).then(async (host) => {
    await host.organizations.put('acme')
    console.log('ready')
    for (let number = Number(first); ; number++) {
      const key = String(number)
      const event = { org: 'acme', type: 'a.b', data: number, idempotency_key: key }
      console.log((await host.publish(event)).id)
    }
  })`

/** What a process says that it published until it is killed. */
async function killed(store: string, first: number): Promise<string[]> {
  const child = spawn(process.execPath, ['--eval', PUBLISHER, store, String(first)], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = once(child, 'exit')
  const lines: string[] = []
  let text = ''
  for await (const part of child.stdout.setEncoding('utf8')) {
    text += part
    // The last one may be cut off.
    lines.push(...text.split('\n').slice(0, -1))
    text = text.slice(text.lastIndexOf('\n') + 1)
    if (lines.length > 10) child.kill('SIGKILL')
  }
  assert.equal((await ended)[1], 'SIGKILL')
  assert.equal(lines.shift(), 'ready')
  return lines
}

test('nothing that was acknowledged is lost by kill -9', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'icp-'))
  const store = join(folder, 'icp.db')
  const told: string[] = []
  for (let turn = 0; turn < TIMES; turn++) told.push(...(await killed(store, turn * 1_000_000)))
  assert.ok(told.length >= TIMES)
  assert.equal(new Set(told).size, told.length)
  await using host = await Engine.open({ store: `sqlite:${store}` })
  const stored: string[] = []
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await host.ask(Op.EVENT_LIST, { org: 'acme', query: { limit: 100, cursor } })
    stored.push(...page.items.map((event: { id: string }) => event.id))
    cursor = page.next
  }
  assert.equal(new Set(stored).size, stored.length)
  const lost = told.filter((id) => !stored.includes(id))
  assert.deepEqual(lost, [])
  await rm(folder, { recursive: true })
})

const WORKER = `
  const { parentPort } = require('node:worker_threads')
  ${OPENED}
  begun.then(async (host) => {
    await host.transformer('double', (number) => number * 2)
    const draft = { transform: [{ host: { handler: 'double' } }], sample: { type: 'a.b', data: 21 } }
    parentPort.postMessage(JSON.stringify(await host.dryRun('acme', draft)))
    parentPort.once('message', async (how) => {
      if (how === 'close') await host.close()
      else for (;;) await Promise.all(Array.from({ length: 50 }, () => host.publish(event)))
    })
  })`

test('each thread has engines of its own, and may end at any moment', async () => {
  await using host = await opened()
  for (const how of ['close', 'terminate']) {
    const workers = [1, 2].map(() => new Worker(WORKER, { eval: true }))
    const ended = workers.map((worker) => once(worker, 'exit'))
    const messages = workers.map((worker) => once(worker, 'message'))
    for (const [made] of await Promise.all(messages)) assert.match(made, /42/)
    for (const worker of workers) worker.postMessage(how)
    await host.publish(order(1))
    if (how === 'terminate') await Promise.all(workers.map((worker) => worker.terminate()))
    for (const [code] of await Promise.all(ended)) assert.equal(code, how === 'close' ? 0 : 1)
  }
  assert.equal((await host.health())['ready'], true)
})

test('both forms of the package are one', async () => {
  const { createRequire } = await import('node:module')
  const required = createRequire(import.meta.url)('icp')
  const imported: Record<string, unknown> = await import('icp')
  for (const name of Object.keys(required)) assert.equal(imported[name], required[name], name)
  assert.equal(imported['Engine'], Engine)
  assert.match(required.version, /^\d+\.\d+\.\d+$/)
})
