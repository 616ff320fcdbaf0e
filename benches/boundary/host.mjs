// A host in Node for `icp-harness boundary`: takes the event, then does `<arm> <count>` for each
// line, and answers nanoseconds on the wall, of processor time, and of the median call.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { Engine } from 'icp'

const IN_FLIGHT = 256
// How long attempts under way have when an engine is closed, in milliseconds.
const DRAIN = 100
let event
let many

// What passes between two looks.
function clock() {
  const wall = process.hrtime.bigint()
  const cpu = process.cpuUsage()
  return (median = 0) => {
    const { user, system } = process.cpuUsage(cpu)
    return [Number(process.hrtime.bigint() - wall), (user + system) * 1_000, median]
  }
}

async function allAtOnce(callers, calls, call) {
  const caller = async () => {
    for (let left = Math.floor(calls / callers); left > 0; left--) await call()
  }
  await Promise.all(Array.from({ length: callers }, caller))
}

async function publish(host, count) {
  const stopped = clock()
  await allAtOnce(IN_FLIGHT, count, () => host.publish(event))
  return stopped()
}

async function publishMany(host, count) {
  const stopped = clock()
  await allAtOnce(2, Math.floor(count / IN_FLIGHT), () => host.publishMany(many))
  return stopped()
}

async function one(host, count) {
  const took = []
  const stopped = clock()
  for (let left = count; left > 0; left--) {
    const began = process.hrtime.bigint()
    await host.publish(event)
    took.push(Number(process.hrtime.bigint() - began))
  }
  took.sort((a, b) => a - b)
  return stopped(took[Math.floor(count / 2)])
}

// Events that a handler takes, of which each waits for `then`; ends when all were taken.
async function handled(host, count, then) {
  let taken = 0
  let all
  const done = new Promise((resolve) => { all = resolve })
  const sink = async () => {
    taken += 1
    if (taken === count) all()
    await then()
  }
  await host.target('sink', sink, { concurrency: IN_FLIGHT })
  const target = { kind: 'host', handler: 'sink' }
  const spec = { events: ['order.*'], target, max_in_flight: IN_FLIGHT }
  await host.integrations.put('acme', spec, { id: 'sink' })
  const stopped = clock()
  await allAtOnce(1, Math.floor(count / IN_FLIGHT), () => host.publishMany(many))
  await done
  return stopped()
}

const handler = (host, count) => handled(host, count, async () => {})

// Beyond the time that is given, with 256 requests under way.
async function close(host) {
  await handled(host, IN_FLIGHT, () => new Promise(() => {}))
  const stopped = clock()
  await host.close({ drainMs: DRAIN })
  const [wall, cpu] = stopped()
  return [wall - DRAIN * 1e6, cpu, 0]
}

const ARMS = { publish, many: publishMany, durable: publish, one, handler, close }

async function turn(arm, count) {
  const folder = await mkdtemp(join(tmpdir(), 'icp-boundary-'))
  try {
    const store = arm === 'durable' ? `sqlite:${folder}/icp.db` : 'memory:'
    const host = await Engine.open({ store })
    try {
      await host.organizations.put('acme')
      return await ARMS[arm](host, count)
    } finally {
      await host.close()
    }
  } finally {
    await rm(folder, { recursive: true })
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (event === undefined) {
    event = Buffer.from(line)
    many = Buffer.from(`[${Array(IN_FLIGHT).fill(line).join(',')}]`)
    continue
  }
  const [arm, count] = line.split(' ')
  console.log((await turn(arm, Number(count))).join(' '))
}
