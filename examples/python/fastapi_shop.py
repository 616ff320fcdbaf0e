"""A shop with FastAPI: a paid order is an event, which goes to the address of the organization's
own system, shaped by a function of the shop. `python fastapi_shop.py https://example.com/hook`
"""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

import icp

URL = sys.argv[1]
STORE = os.environ.get("STORE", "sqlite:shop.db")
DEVELOPMENT = "DEVELOPMENT" in os.environ


class Order(BaseModel):
    number: int


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    async with icp.AsyncEngine(
        store=STORE, key_file="shop.key", allow_loopback=DEVELOPMENT
    ) as engine:

        @engine.transformer("with-vat")
        async def with_vat(order: dict[str, Any], _: icp.RequestContext) -> dict[str, Any]:
            return {**order, "vat": 19}

        await engine.organizations.put("acme")
        spec = {
            "events": ["order.*"],
            "transform": [{"host": {"handler": "with-vat"}}],
            "target": {"kind": "http", "url": URL},
        }
        await engine.integrations.put("acme", spec, id="orders")
        app.state.icp = engine
        yield


app = FastAPI(lifespan=life)


@app.post("/", status_code=202)
async def pay(order: Order, request: Request) -> dict[str, Any]:
    engine: icp.AsyncEngine = request.app.state.icp
    event = {"org": "acme", "type": "order.paid", "data": order.model_dump()}
    key = f"order-{order.number}-paid"
    return dict(await engine.publish({**event, "idempotency_key": key}))


@app.exception_handler(RequestValidationError)
@app.exception_handler(icp.InvalidError)
async def theirs(_: Request, fault: Exception) -> JSONResponse:
    return JSONResponse({"message": str(fault)}, status_code=400)


# The server raises it again once everything is closed.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "0"))))
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
