/**
 * A shop with a plain server of Node: a paid order is an event, which goes to the address of the
 * organization's own system. `node http.mjs https://example.com/hook`
 */
import { createServer } from 'node:http'
import { json } from 'node:stream/consumers'

import { Engine, InvalidError } from 'icp'

const [url] = process.argv.slice(2)
const { STORE = 'sqlite:shop.db', PORT = '0', DEVELOPMENT } = process.env
const icp = await Engine.open({ store: STORE, keyFile: 'shop.key', allowLoopback: !!DEVELOPMENT })
await icp.organizations.put('acme')
const spec = { events: ['order.*'], target: { kind: 'http', url } }
await icp.integrations.put('acme', spec, { id: 'orders' })

const server = createServer(async (request, response) => {
  const answer = (status, document) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(document))
  }
  try {
    const order = await json(request)
    const key = `order-${order.number}-paid`
    const event = { org: 'acme', type: 'order.paid', data: order, idempotency_key: key }
    answer(202, await icp.publish(event))
  } catch (error) {
    const isTheirs = error instanceof InvalidError || error instanceof SyntaxError
    answer(isTheirs ? 400 : 500, { message: isTheirs ? error.message : 'try again' })
  }
})

server.listen(Number(PORT), '127.0.0.1', () => console.log(server.address().port))

process.once('SIGTERM', () => {
  // What is asked for is answered first, and attempts under way may finish.
  server.close(() => icp.close())
  server.closeIdleConnections()
})
