"""Model servers of the kinds that a client meets: one that answers, and ones that do not."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

Answer = Callable[[dict[str, Any]], str]


class ModelServer:
    """An OpenAI-compatible server on loopback, in a thread of this process.

    ``answer`` makes the text from the request body. ``failures`` are replies that are given first, one a request: a
    status, (status, body, headers), or seconds of silence. After ``lives`` requests the server dies: connections are
    cut without a reply.
    """

    def __init__(
        self,
        answer: Answer = lambda body: "ok",
        *,
        failures: list[int | float | tuple[int, Any, dict[str, str]]] | None = None,
        lives: int = 1 << 30,
        models: tuple[str, ...] = ("small",),
        usage: bool = True,
    ) -> None:
        self.answer, self.failures, self.lives, self.usage = answer, list(failures or []), lives, usage
        self.models = models
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        config = uvicorn.Config(self._app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": name, "owned_by": "test"} for name in self.models]}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            return await self._reply(request, lambda text: {"message": {"role": "assistant", "content": text}})

        @app.post("/v1/completions")
        async def plain(request: Request) -> Response:
            return await self._reply(request, lambda text: {"text": text})

        return app

    async def _reply(self, request: Request, wrap: Callable[[str], dict[str, Any]]) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.lives -= 1
        if self.lives < 0:
            raise SystemExit  # uvicorn closes the connection without a reply
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, float):
                await asyncio.sleep(failure)
            else:
                status, content, headers = failure if isinstance(failure, tuple) else (failure, {"detail": "no"}, {})
                return JSONResponse(content, status_code=status, headers=headers)
        text = await asyncio.to_thread(self.answer, body)
        read = sum(len(message["content"].split()) for message in body.get("messages", []))
        limit = body["max_tokens"]
        words = text.split(" ")
        content = {
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop" if len(words) <= limit else "length"}
                | wrap(" ".join(words[:limit]))
            ],
        }
        if self.usage:
            content["usage"] = {"prompt_tokens": read, "completion_tokens": min(len(words), limit)}
        return JSONResponse(content)

    def __enter__(self) -> ModelServer:
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening; calling it twice is fine."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
