"""A gRPC server that does nothing: what a call costs before anybody works. Prints its port."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

MESSAGE_BYTES = 64 * 1024 * 1024


def main():
    reply = bytes(int(sys.argv[1]))
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: reply)
    server = grpc.server(
        ThreadPoolExecutor(os.cpu_count() or 1),
        handlers=[grpc.method_handlers_generic_handler("bench.Null", {"Call": handler})],
        options=[("grpc.max_receive_message_length", MESSAGE_BYTES)],
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
