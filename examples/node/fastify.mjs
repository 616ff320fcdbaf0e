/**
 * The same shop with Fastify, and a function of it that shapes what is sent.
 * `node fastify.mjs https://example.com/hook`
 */
import Fastify from 'fastify'

import { Engine, InvalidError } from 'icp'

const [url] = process.argv.slice(2)
const { STORE = 'sqlite:shop.db', PORT = '0', DEVELOPMENT } = process.env
const icp = await Engine.open({ store: STORE, keyFile: 'shop.key', allowLoopback: !!DEVELOPMENT })
await icp.organizations.put('acme')
await icp.transformer('with-vat', (order) => ({ ...order, vat: 19 }))
const transform = [{ host: { handler: 'with-vat' } }]
const spec = { events: ['order.*'], transform, target: { kind: 'http', url } }
await icp.integrations.put('acme', spec, { id: 'orders' })

const app = Fastify()

app.post('/', async (request, reply) => {
  const key = `order-${request.body.number}-paid`
  const event = { org: 'acme', type: 'order.paid', data: request.body, idempotency_key: key }
  reply.code(202)
  return icp.publish(event)
})

app.setErrorHandler((error, request, reply) => {
  const status = error instanceof InvalidError ? 400 : (error.statusCode ?? 500)
  reply.code(status).send({ message: status < 500 ? error.message : 'try again' })
})

app.addHook('onClose', () => icp.close())
process.once('SIGTERM', () => app.close())

await app.listen({ port: Number(PORT), host: '127.0.0.1' })
console.log(app.server.address().port)
