import { Lagged } from './errors'
import { Item } from './ops'
import type { Taken } from './link'
import type { Document } from './types'

/** How many items wait at most for a reader; what is beyond is counted as lagged. */
const ROOM = 1_024

/**
 * The items of a subscription, to be read by one `for await`. Leaving the loop, `return()` and
 * `await using` end it.
 */
export class Subscription implements AsyncIterableIterator<Document, undefined>, AsyncDisposable {
  readonly #items: Document[] = []
  readonly #unsubscribe: () => void
  #dropped = 0
  #ended = false
  #failure: unknown
  #wake: (() => void) | undefined

  /** @internal */
  constructor(unsubscribe: () => void) {
    this.#unsubscribe = unsubscribe
  }

  /** @internal Takes what came out of the queue. */
  push(taken: Taken): void {
    const document = JSON.parse(taken.body) as Document
    if (taken.kind === Item.LAGGED) this.#dropped += document['dropped']
    else if ('end' in document) this.#ended = true
    else if (!('item' in document)) return
    else if (this.#items.length < ROOM && this.#dropped === 0) this.#items.push(document['item'])
    else this.#dropped += 1
    this.#wake?.()
  }

  /** @internal Ends it, at once where there is a failure. */
  end(failure?: unknown): void {
    this.#ended = true
    this.#failure = failure
    this.#wake?.()
  }

  /** The next item. Throws `Lagged` where the following ones were dropped. */
  async next(): Promise<IteratorResult<Document, undefined>> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#left(this.#failure)
      const value = this.#items.shift()
      if (value !== undefined) return { value, done: false }
      if (this.#dropped > 0) throw this.#left(new Lagged(this.#dropped))
      if (this.#ended) return this.return()
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }

  #left(failure: unknown): unknown {
    this.#unsubscribe()
    return failure
  }

  /** Ends it. */
  async return(): Promise<IteratorResult<Document, undefined>> {
    this.#items.length = 0
    this.#dropped = 0
    this.end()
    this.#unsubscribe()
    return { value: undefined, done: true }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }
}
