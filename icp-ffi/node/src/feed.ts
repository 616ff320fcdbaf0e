import { isMainThread } from 'node:worker_threads'

import * as koffi from 'koffi'

import type { Link, Taken } from './link'

/** How long a drain on another thread waits at most, in milliseconds. */
const TURN = 100

/** Brings what comes out of a queue to the event loop. */
export interface Feed {
  /** Whether something is waited for, so that the process stays alive. */
  hold(on: boolean): void
  /** Ends it; nothing is drained when this is done. */
  close(): Promise<void>
}

/** The feed that fits the system and the thread. */
export function feed(link: Link, deliver: (taken: Taken[]) => void): Feed {
  const fd = link.fd()
  // A handle that is open while its worker is terminated would take the whole process down.
  return fd >= 0 && isMainThread ? new Polled(fd, link, deliver) : new Pumped(link, deliver)
}

/** Drains on this thread when the descriptor of the queue is readable. */
class Polled implements Feed {
  readonly #handle: koffi.node.PollHandle

  constructor(fd: number, link: Link, deliver: (taken: Taken[]) => void) {
    this.#handle = koffi.node.poll(fd, { readable: true }, () => {
      const taken = link.drain()
      if (taken) deliver(taken)
    })
    this.#handle.unref()
  }

  hold(on: boolean): void {
    if (on) this.#handle.ref()
    else this.#handle.unref()
  }

  async close(): Promise<void> {
    this.#handle.close()
  }
}

/** Drains on another thread, again and again while something is waited for. */
class Pumped implements Feed {
  readonly #link: Link
  readonly #deliver: (taken: Taken[]) => void
  #held = false
  #running: Promise<void> | undefined

  constructor(link: Link, deliver: (taken: Taken[]) => void) {
    this.#link = link
    this.#deliver = deliver
  }

  hold(on: boolean): void {
    this.#held = on
    if (on) this.#running ??= this.#pump()
  }

  async #pump(): Promise<void> {
    while (this.#held) {
      const taken = await this.#link.drainLater(TURN)
      if (!taken) break
      this.#deliver(taken)
    }
    this.#running = undefined
  }

  async close(): Promise<void> {
    this.#held = false
    this.#link.wake()
    await this.#running
  }
}
