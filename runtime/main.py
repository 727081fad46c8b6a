from fastapi import FastAPI

from runtime.infrastructure.container import Container
from runtime.infrastructure.settings import Settings
from runtime.infrastructure.web.app import create_app


def main() -> FastAPI:
    """ASGI factory: `uvicorn --factory runtime.main:main`."""
    return create_app(Container(settings=Settings()))
