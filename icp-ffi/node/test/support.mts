/** A receiver on loopback, and what tests publish. */
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import { Engine, type Document, type NewEvent, type Settings } from 'icp'

/** Takes every request, and keeps its header fields and its body. */
export class Receiver implements AsyncDisposable {
  readonly received: unknown[] = []
  readonly headers: IncomingHttpHeaders[] = []
  readonly url: string
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`
    server.on('request', async (request, response) => {
      this.headers.push(request.headers)
      let text = ''
      for await (const part of request.setEncoding('utf8')) text += part
      this.received.push(JSON.parse(text))
      response.end()
    })
  }

  static async start(): Promise<Receiver> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new Receiver(server)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

/** An engine on a store in memory, with the organization `acme`. */
export async function opened(settings: Partial<Settings> = {}): Promise<Engine> {
  const icp = await Engine.open({ store: 'memory:', allowLoopback: true, ...settings })
  await icp.organizations.put('acme')
  return icp
}

export function httpTarget(url: string): Document {
  return { events: ['order.*'], target: { kind: 'http', url } }
}

export function hostTarget(handler: string): Document {
  return { events: ['order.*'], target: { kind: 'host', handler } }
}

export function order(number: number): NewEvent {
  return { org: 'acme', type: 'order.paid', data: { order: number } }
}

/** Waits for what comes sooner or later. */
export async function until<T>(look: () => T | Promise<T>): Promise<Exclude<NonNullable<T>, false>> {
  for (;;) {
    const found = await look()
    if (found) return found as Exclude<NonNullable<T>, false>
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}
