import { endianness } from 'node:os'

import { errorOf, fault } from './errors'
import { library, type Library } from './library'
import { ABI_VERSION, Op, Status } from './ops'

const HEADER = 24
const FIRST_BUFFER = 1 << 16
const LITTLE = endianness() === 'LE'

/** What came out of the queue. */
export interface Taken {
  /** The caller's tag, the id of the request, or the tag of the subscription. */
  tag: number
  kind: number
  status: number
  body: string
}

/** One engine and one queue of it, on the thread that made it. */
export class Link {
  readonly #library: Library = library()
  readonly #out = new BigUint64Array(1)
  readonly #error = new BigUint64Array(1)
  readonly #needed = new BigUint64Array(1)
  #engine = 0n
  #queue = 0n
  #buffer = Buffer.alloc(FIRST_BUFFER)

  /** Opens nothing: that is done by `Op.START`. */
  constructor(settings: unknown) {
    const config = Buffer.from(JSON.stringify(settings))
    const { engineNew, queueNew } = this.#library
    this.#check(engineNew(ABI_VERSION, config, config.length, this.#out, this.#error))
    this.#engine = this.#out[0]!
    this.#check(queueNew(this.#engine, 0, this.#out, this.#error))
    this.#queue = this.#out[0]!
  }

  #check(status: number): void {
    if (status === Status.OK) return
    const error = this.#error[0]!
    this.#error[0] = 0n
    const text = error === 0n ? '' : this.#library.errorJson(error)
    if (error !== 0n) this.#library.errorFree(error)
    throw errorOf(status, text)
  }

  /** The descriptor that is readable while there is something to drain, or -1. */
  fd(): number {
    return Number(this.#library.queueFd(this.#queue))
  }

  /** Starts an operation; its completion comes out of the queue. */
  submit(op: Op, tag: number, body: Uint8Array): void {
    if (this.#engine === 0n) throw fault(Status.CLOSED, 'the engine is closed')
    const { submit } = this.#library
    this.#check(submit(this.#engine, this.#queue, op, tag, body, body.length, this.#error))
  }

  /** Calls a wait off; nothing where it has ended. */
  cancel(tag: number): void {
    if (this.#engine !== 0n) this.#library.cancel(this.#engine, this.#queue, tag)
  }

  /** Answers a handler's request; nothing where nobody waits for it any more. */
  respond(request: number, status: Status, body: Uint8Array): void {
    if (this.#engine === 0n) return
    this.#library.respond(this.#engine, request, status, body, body.length)
  }

  /** Has the log of the process come out of this queue. */
  log(level: number): void {
    this.#check(this.#library.logToQueue(this.#queue, level, this.#error))
  }

  /** What is in the queue now; `undefined` when nothing more will come. */
  drain(): Taken[] | undefined {
    for (;;) {
      const count = Number(this.#library.queueDrain(...this.#draining(0)))
      const taken = this.#taken(count)
      if (taken !== 'again') return taken
    }
  }

  /**
   * As `drain`, but waits on another thread for the first record. Not while another drain is
   * under way: the buffer is used again.
   */
  async drainLater(timeoutMs: number): Promise<Taken[] | undefined> {
    for (;;) {
      const count = await new Promise<number>((resolve, reject) => {
        const done = (error: unknown, count: number) => (error ? reject(error) : resolve(count))
        this.#library.queueDrain.async(...this.#draining(timeoutMs), done)
      })
      const taken = this.#taken(Number(count))
      if (taken !== 'again') return taken
    }
  }

  #draining(timeoutMs: number): unknown[] {
    return [this.#queue, this.#buffer, this.#buffer.length, timeoutMs, this.#needed]
  }

  #taken(count: number): Taken[] | undefined | 'again' {
    if (count < 0) return undefined
    if (count === 0 && this.#needed[0]! > 0n) {
      this.#buffer = Buffer.alloc(Number(this.#needed[0]))
      return 'again'
    }
    return records(this.#buffer, count)
  }

  /** Makes a drain that waits return. */
  wake(): void {
    this.#library.queueWake(this.#queue)
  }

  /** Stops the engine at once, on another thread; what is pending ends as cancelled. */
  async stop(): Promise<void> {
    const engine = this.#engine
    this.#engine = 0n
    await new Promise<void>((resolve) => this.#library.engineFree.async(engine, () => resolve()))
  }

  /** Frees the queue, when no drain is under way. */
  free(): void {
    const queue = this.#queue
    this.#queue = 0n
    this.#library.queueFree(queue)
  }
}

/** Reads whole records: a header of 24 bytes, the body, and padding to 8. */
export function records(buffer: Buffer, count: number): Taken[] {
  const view = new DataView(buffer.buffer, buffer.byteOffset, count)
  const found: Taken[] = []
  for (let at = 0; at < count; ) {
    // Tags and ids are far below the integers that a number holds.
    const tag = Number(view.getBigUint64(at, LITTLE))
    const kind = view.getUint32(at + 8, LITTLE)
    const status = view.getInt32(at + 12, LITTLE)
    const length = view.getUint32(at + 16, LITTLE)
    at += HEADER
    found.push({ tag, kind, status, body: buffer.toString('utf8', at, at + length) })
    at += (length + 7) & ~7
  }
  return found
}
