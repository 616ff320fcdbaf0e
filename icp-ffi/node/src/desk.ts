import { errorOf } from './errors'
import { feed, type Feed } from './feed'
import { Handlers } from './handlers'
import { Link, type Taken } from './link'
import { Item, Op, Status } from './ops'
import { Subscription } from './subscription'
import type { Document, Encoded, LogLevel, LogLine } from './types'

interface Waiting {
  resolve(answer: string): void
  reject(error: unknown): void
}

const LEVELS: LogLevel[] = ['error', 'warn', 'info', 'debug', 'trace']

/** What waits for which record of the queue. Knows nothing of the `Engine` that uses it. */
export class Desk {
  readonly handlers: Handlers
  readonly #link: Link
  readonly #feed: Feed
  readonly #log: ((line: LogLine) => void) | undefined
  readonly #pending = new Map<number, Waiting>()
  readonly #followed = new Map<number, Subscription>()
  #tag = 0
  #open = true

  constructor(settings: Document, log?: (line: LogLine) => void, level: LogLevel = 'info') {
    this.#link = new Link(settings)
    this.#log = log
    if (log) this.#link.log(LEVELS.indexOf(level) + 1)
    this.#feed = feed(this.#link, (taken) => this.#deliver(taken))
    this.handlers = new Handlers(
      (request, status, document) => this.#link.respond(request, status, encoded(document)),
      (name, error) => this.#tell('error', `the handler ${name} failed`, { error: trace(error) })
    )
  }

  /** Whether nobody closed it. */
  get open(): boolean {
    return this.#open
  }

  /**
   * Does an operation. Where `signal` aborts, the operation goes on and its end is not waited
   * for; one that only waits ends.
   */
  async ask(
    op: Op,
    body: Uint8Array,
    signal?: AbortSignal,
    tag: number = this.#next()
  ): Promise<string> {
    signal?.throwIfAborted()
    this.#link.submit(op, tag, body)
    let stop: (() => void) | undefined
    try {
      return await new Promise((resolve, reject) => {
        this.#pending.set(tag, { resolve, reject })
        this.settle()
        stop = () => {
          reject(signal?.reason)
          if (op === Op.DELIVERY_WAIT) this.#link.cancel(tag)
        }
        signal?.addEventListener('abort', stop)
      })
    } finally {
      if (stop) signal?.removeEventListener('abort', stop)
    }
  }

  #next(): number {
    this.#tag += 1
    return this.#tag
  }

  /** Follows something, until its end or that of `signal`. */
  async subscribe(document: Document, signal?: AbortSignal): Promise<Subscription> {
    const tag = this.#next()
    const stop = () => followed.end(signal?.reason)
    const followed = new Subscription(() => {
      signal?.removeEventListener('abort', stop)
      this.#unsubscribe(tag)
    })
    this.#followed.set(tag, followed)
    try {
      await this.ask(Op.SUBSCRIBE, encoded(document), signal, tag)
    } catch (error) {
      this.#unsubscribe(tag)
      throw error
    }
    signal?.addEventListener('abort', stop)
    return followed
  }

  #unsubscribe(tag: number): void {
    if (!this.#followed.delete(tag)) return
    this.settle()
    // It may have ended by itself.
    if (this.#open) this.ask(Op.UNSUBSCRIBE, encoded({ subscription: tag })).catch(() => {})
  }

  /** Stops the engine at once; what is pending ends as cancelled. */
  async abandon(): Promise<void> {
    if (!this.#open) return
    this.#open = false
    this.handlers.clear()
    // Others may go on while the engine's threads stop, which is done on another one.
    await Promise.all([this.#feed.close(), this.#link.stop()])
    for (let taken = this.#link.drain(); taken?.length; taken = this.#link.drain()) {
      this.#deliver(taken)
    }
    for (const followed of this.#followed.values()) followed.end()
    this.#link.free()
  }

  /** Keeps the process alive exactly while something is waited for. */
  settle(): void {
    if (!this.#open) return
    this.#feed.hold(this.#pending.size + this.#followed.size + this.handlers.size > 0)
  }

  #deliver(taken: Taken[]): void {
    for (const one of taken) this.#hand(one)
    this.settle()
  }

  #hand(taken: Taken): void {
    switch (taken.kind) {
      case Item.COMPLETION: {
        const waiting = this.#pending.get(taken.tag)
        this.#pending.delete(taken.tag)
        if (taken.status === Status.OK) waiting?.resolve(taken.body)
        else waiting?.reject(errorOf(taken.status, taken.body))
        return
      }
      case Item.REQUEST:
        void this.handlers.run(taken)
        return
      case Item.REQUEST_CANCELLED:
        return this.handlers.callOff(taken.tag)
      case Item.LOG:
        return this.#line(JSON.parse(taken.body) as LogLine)
      default:
        if (taken.tag !== 0) return this.#followed.get(taken.tag)?.push(taken)
        this.#tell('warn', 'lines of the log were dropped', JSON.parse(taken.body) as Document)
    }
  }

  #tell(level: LogLevel, message: string, fields: Record<string, string>): void {
    this.#line({ level, message, target: 'icp::node', fields })
  }

  #line(line: LogLine): void {
    try {
      this.#log?.(line)
    } catch (error) {
      // The defect of a host's log keeps no completion back.
      queueMicrotask(() => {
        throw error
      })
    }
  }
}

/** A document as JSON text; text stays as it is. */
export function encoded(document: unknown | Encoded): Uint8Array {
  if (document instanceof Uint8Array) return document
  return Buffer.from(typeof document === 'string' ? document : JSON.stringify(document))
}

function trace(error: unknown): string {
  return error instanceof Error ? (error.stack ?? String(error)) : String(error)
}
