"""A CloudWatch that takes PutMetricData and remembers what it got, in each protocol that an SDK may speak to it.

Smithy RPC v2 CBOR (current SDKs), JSON 1.0, and the old query protocol; bodies may be compressed. It can be told to refuse, or never to
answer. Owns a port and the data; judges nothing.
"""

import collections
import gzip
import http.server
import json
import struct
import threading
import time
import urllib.parse

SERVICE = "GraniteServiceVersion20100801"

Datum = collections.namedtuple("Datum", "namespace name unit dimensions sum minimum maximum count")


class CloudWatch:
    """Runs while it is open. `mode`: "answer", "refuse" (throttled), or "hang"."""

    def __init__(self):
        self.data, self.protocols, self.requests, self.sizes, self.mode = [], set(), 0, [], "answer"
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                outer.serve(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.mode = "answer"
        self.server.shutdown()
        self.server.server_close()

    def serve(self, request):
        headers, body = request.headers, body_of(request)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        protocol, operation, fields = decode(request.path, headers, body)
        with self.lock:
            self.requests += 1
            self.protocols.add(protocol)
        while self.mode == "hang":
            time.sleep(0.1)
        if self.mode == "refuse" or operation != "PutMetricData":
            code = "Throttling" if self.mode == "refuse" else "UnknownOperationException"
            return respond(request, protocol, 400, {"__type": code, "message": f"{operation}: {code}"})
        with self.lock:
            self.sizes.append(len(fields["MetricData"]))
            self.data += [datum(fields["Namespace"], each) for each in fields["MetricData"]]
        respond(request, protocol, 200, {})

    def of(self, namespace):
        with self.lock:
            return [each for each in self.data if each.namespace == namespace]


def body_of(request):
    if request.headers.get("Transfer-Encoding") != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    body = b""
    while size := int(request.rfile.readline().split(b";")[0], 16):
        body += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return body


def datum(namespace, fields):
    dimensions = tuple((each["Name"], each["Value"]) for each in fields.get("Dimensions") or ())
    values = fields.get("StatisticValues")
    if values is None:
        numbers = (fields["Value"], fields["Value"], fields["Value"], 1)
    else:
        numbers = tuple(values[name] for name in ("Sum", "Minimum", "Maximum", "SampleCount"))
    unexpected = set(fields) - {"MetricName", "Unit", "Dimensions", "StatisticValues", "Value"}
    if unexpected:
        raise ValueError(f"{fields['MetricName']} has {unexpected}")
    return Datum(namespace, fields["MetricName"], fields["Unit"], dimensions, *(float(n) for n in numbers))


def decode(path, headers, body):
    """Protocol, operation and its fields."""
    if headers.get("smithy-protocol") == "rpc-v2-cbor":
        return "rpc-v2-cbor", path.rsplit("/", 1)[1], Cbor(body).item()
    if headers.get("X-Amz-Target"):
        return "json", headers["X-Amz-Target"].rsplit(".", 1)[1], json.loads(body)
    form = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
    fields = unflattened(form)
    return "query", form.get("Action"), fields


def unflattened(form):
    """`A.member.1.B=c` as {"A": [{"B": "c"}]}."""
    root = {}
    for name, value in form.items():
        *path, last = name.split(".")
        at = root
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value

    def lists(node):
        if not isinstance(node, dict):
            return node
        if set(node) == {"member"}:
            return [lists(node["member"][key]) for key in sorted(node["member"], key=int)]
        return {key: lists(value) for key, value in node.items()}

    return lists(root)


def respond(request, protocol, status, fields):
    if protocol == "rpc-v2-cbor":
        kind, body = "application/cbor", cbor(fields)
    elif protocol == "json":
        kind, body = "application/x-amz-json-1.0", json.dumps(fields).encode()
    elif status == 200:
        kind, body = "text/xml", b"<PutMetricDataResponse><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PutMetricDataResponse>"
    else:
        error = f"<Error><Type>Sender</Type><Code>{fields['__type']}</Code><Message>{fields['message']}</Message></Error>"
        kind, body = "text/xml", f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>".encode()
    try:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        if protocol == "rpc-v2-cbor":
            request.send_header("smithy-protocol", "rpc-v2-cbor")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
    except OSError:
        pass  # whoever asked has given up


def cbor(fields):
    """A map of short texts."""
    out = bytes([0xA0 | len(fields)])
    for text in (text for pair in fields.items() for text in pair):
        data = text.encode()
        out += bytes([0x78, len(data)]) + data
    return out


class Cbor:
    """Reads one item (RFC 8949)."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count:self.at]

    def item(self):
        first = self.take(1)[0]
        major, low = first >> 5, first & 31
        if major == 7:
            if low in (20, 21, 22, 23):
                return {20: False, 21: True}.get(low)
            if low == 31:
                return StopIteration
            return struct.unpack({25: ">e", 26: ">f", 27: ">d"}[low], self.take({25: 2, 26: 4, 27: 8}[low]))[0]
        endless = low == 31
        number = low if low < 24 else 0 if endless else int.from_bytes(self.take(1 << (low - 24)), "big")
        if major == 0:
            return number
        if major == 1:
            return -1 - number
        if major in (2, 3):
            if endless:
                return ("" if major == 3 else b"").join(self.parts())
            data = self.take(number)
            return data.decode() if major == 3 else data
        if major == 4:
            return list(self.parts()) if endless else [self.item() for _ in range(number)]
        if major == 5:
            if endless:
                return {key: self.item() for key in self.parts()}
            return {self.item(): self.item() for _ in range(number)}
        return self.item()  # a tag says nothing here

    def parts(self):
        while (part := self.item()) is not StopIteration:
            yield part
