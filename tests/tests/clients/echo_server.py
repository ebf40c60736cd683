"""A WebSocket server that sends back what it gets. Prints its port."""

import asyncio

import websockets

# With what code and reason a client has closed last.
last = asyncio.Queue()


async def serve(socket):
    try:
        async for message in socket:
            if message == "close":
                await socket.close(4002, "as you wish")
            elif message == "ping":
                await (await socket.ping(b"from the server"))
                await socket.send("pong came")
            elif message == "how was it closed?":
                await socket.send(await last.get())
            else:
                await socket.send(message)
    except websockets.ConnectionClosedError:
        pass
    if socket.close_code == 4001:
        await last.put(f"{socket.close_code} {socket.close_reason}")


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0, max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


asyncio.run(main())
