"""`/docs`: the OpenAPI document to read and to try. Works offline: nothing comes from elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

router = APIRouter(include_in_schema=False)

_STATIC = Path(__file__).parent / "static"
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}


@router.get("/docs")
async def docs() -> FileResponse:
    return FileResponse(_STATIC / "docs.html", headers=_POLICY)


@router.get("/docs/docs.css")
async def style() -> FileResponse:
    return FileResponse(_STATIC / "docs.css")


@router.get("/docs/docs.js")
async def script() -> FileResponse:
    return FileResponse(_STATIC / "docs.js", media_type="text/javascript")
