"""A shop with Django: the event of a paid order is published in the transaction that stores the
order, so that there is never one without the other. `python django_shop.py https://example.com/hook`
"""

import json
import os
import signal
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings

import icp

URL = sys.argv[1]
DEVELOPMENT = "DEVELOPMENT" in os.environ

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": "shop.db",
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    ROOT_URLCONF=__name__,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import IntegrityError, connection, models, transaction  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

# In the product's own database, where its transactions are.
engine = icp.Engine(store="sqlite:shop.db", key_file="shop.key", allow_loopback=DEVELOPMENT)


class Order(models.Model):
    number = models.IntegerField(unique=True)

    class Meta:
        app_label = "shop"


def pay(request: HttpRequest) -> JsonResponse:
    try:
        order = {"number": int(json.loads(request.body)["number"])}
    except (ValueError, KeyError, TypeError) as fault:
        return JsonResponse({"message": str(fault)}, status=400)
    insert = engine.outbox({"org": "acme", "type": "order.paid", "data": order}, style="format")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            Order.objects.create(**order)
            cursor.execute(insert["sql"], insert["values"])
    except IntegrityError:
        return JsonResponse({"message": "it is paid already"}, status=409)
    return JsonResponse({"id": insert["id"]}, status=202)


urlpatterns = [path("", pay)]


class Server(ThreadingMixIn, WSGIServer):
    pass


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


with engine:
    engine.organizations.put("acme")
    spec = {"events": ["order.*"], "target": {"kind": "http", "url": URL}}
    engine.integrations.put("acme", spec, id="orders")
    if Order._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)
    port = int(os.environ.get("PORT", "0"))
    server = make_server("127.0.0.1", port, get_wsgi_application(), Server, Quiet)
    # Not in this thread, which serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(server.server_port, flush=True)
    server.serve_forever()
