import argparse
import asyncio
import sys

from tests.upstream import FakeUpstream


async def serve(port: int) -> None:
    async with FakeUpstream(port=port) as upstream:
        sys.stdout.write(f"base_url={upstream.base_url}\n")
        sys.stdout.flush()
        await upstream.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(prog="python -m tests.upstream")
    arguments.add_argument("--port", type=int, default=0)
    asyncio.run(serve(arguments.parse_args().port))
