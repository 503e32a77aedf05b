"""A model client for any server that speaks the OpenAI interface: vLLM, SGLang, llama.cpp, Ollama and hosted models.

Every text is a request of its own: some servers ignore ``n``, and a seed of its own makes every sample repeatable where
the server honours seeds. What may pass (lost connections, time-outs, 429 and 5xx) is tried again with growing, jittered
pauses or after the pause that the server asks for; what does not pass is one sentence.

The key comes from the environment (:data:`KEY_VARIABLE`) and is in no record, message or settings file.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from kgr1.config import EndpointSettings
from kgr1.errors import GraphServerError, ModelServerError
from kgr1.graph.render import neutralise
from kgr1.models.chat import ChatPolicy
from kgr1.models.client import Reply, Request
from kgr1.server.tokens import Secret
from kgr1.server.transport import LOOPBACK, MAX_PAUSE_S, AttemptError, retry_after_s
from kgr1.types import FinishReason

KEY_VARIABLE = "KGR1_MODEL_KEY"
"""Environment variable with the key that is sent to the model server."""

MAX_REPLY_BYTES = 16 * 2**20
BYTES_PER_TOKEN = 3
"""For lengths before the server has counted: English has about four bytes a token, names and relations fewer."""

_MESSAGE_CHARACTERS = 300
_LISTED = 5
_SEEDS = 1 << 31  # llama.cpp keeps 32 bits


class _Lenient(BaseModel):
    """A part of a reply; servers add fields of their own."""


class _Usage(_Lenient):
    prompt_tokens: int
    completion_tokens: int = 0


class _ChatMessage(_Lenient):
    content: str | None = None


class _Choice(_Lenient):
    message: _ChatMessage | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Completion(_Lenient):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(_Lenient):
    id: str


class _Models(_Lenient):
    data: list[_Model]


class OpenAIClient:
    """Satisfies :class:`kgr1.models.client.ModelClient`.

    ``url`` is what stands before ``/chat/completions``, usually ending in ``/v1``. Without a ``key`` that of the
    environment is sent; ``key_name`` is the variable that messages speak of. Its methods raise
    :class:`ModelServerError`. A client may be used from several event loops, one after the other.
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        settings: EndpointSettings | None = None,
        *,
        key: str | None = None,
        key_name: str = KEY_VARIABLE,
    ) -> None:
        self._key_name = key_name
        self.url = _checked(url)
        self.model = model
        self.settings = settings or EndpointSettings()
        try:
            self._secret = Secret.choose(os.environ.get(KEY_VARIABLE, "").strip() if key is None else key)
        except GraphServerError as error:
            raise ModelServerError(f"{key_name} holds no key: {error}") from error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http: httpx.AsyncClient
        self._places: asyncio.Semaphore

    @property
    def name(self) -> str:
        """The model, and where it is."""
        return f"{self.url}#{self.model}"

    @property
    def max_context(self) -> int:
        """The context length that the settings say; servers do not tell it in one way."""
        return self.settings.context

    @property
    def has_beams(self) -> bool:
        """The interface has no beam search."""
        return False

    def count_tokens(self, text: str) -> int:
        """An estimate from the number of bytes."""
        return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)

    def policy(self) -> ChatPolicy:
        """The model in the part of the agent."""
        return ChatPolicy(self, continue_reply=self.settings.continue_reply)

    async def connect(self) -> None:
        """Ask the server for its models: it must have ours, or exactly one if none was named."""
        listed = await self._send("GET", "/models", None)
        try:
            names = [model.id for model in _Models.model_validate_json(listed).data]
        except ValidationError as error:
            raise self._nonsense("a list of models that cannot be read") from error
        shown = ", ".join(neutralise(name)[:80] for name in names[:_LISTED]) or "none"
        if not self.model and len(names) != 1:
            raise ModelServerError(
                f"{self.url} serves {len(names)} models ({shown}); name one behind the address, as in {self.url}#NAME."
            )
        # A name may be an alias that the list leaves out, so only the first use tells whether it is known.
        self.model = self.model or names[0]

    async def generate(self, requests: Sequence[Request]) -> list[Reply]:
        """See :class:`kgr1.models.client.ModelClient`."""
        if any(request.beams for request in requests):
            raise ModelServerError(
                "Beam search needs a model in this process, not one behind HTTP; take a system that does without."
            )
        return list(await asyncio.gather(*map(self._answer, requests)))

    async def _answer(self, request: Request) -> Reply:
        replies = await asyncio.gather(*(self._one(request, number) for number in range(request.n)))
        return Reply(
            texts=tuple(reply.text for reply in replies),
            finishes=tuple(reply.finishes[0] for reply in replies),
            prompt_tokens=replies[0].prompt_tokens,
            generated_tokens=sum(reply.generated_tokens for reply in replies),
            seconds=max(reply.seconds for reply in replies),
        )

    async def _one(self, request: Request, number: int) -> Reply:
        started = time.perf_counter()
        path = "/chat/completions" if request.messages else "/completions"
        content = await self._send("POST", path, self._body(request, number))
        try:
            completion = _Completion.model_validate_json(content)
            choice = completion.choices[0]
        except (ValidationError, IndexError) as error:
            raise self._nonsense("something that is not a completion") from error
        text = (choice.message.content if choice.message is not None else choice.text) or ""
        read = request.prompt or "\n".join(message.content for message in request.messages)
        usage = completion.usage
        return Reply(
            texts=(text,),
            finishes=(FinishReason.LENGTH if choice.finish_reason == "length" else FinishReason.EOS,),
            prompt_tokens=usage.prompt_tokens if usage is not None else self.count_tokens(read),
            generated_tokens=usage.completion_tokens if usage is not None else self.count_tokens(text),
            seconds=time.perf_counter() - started,
        )

    def _body(self, request: Request, number: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": (request.seed + number) % _SEEDS,
        }
        if request.messages:
            body["messages"] = [message.model_dump() for message in request.messages]
        else:
            body["prompt"] = request.prompt
        if request.stop:
            body["stop"] = list(request.stop)
        if request.continue_last:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        """Send until there is a reply; returns the body of a 200."""
        self._attach_loop()
        attempt = 0
        while True:
            try:
                async with self._places:
                    return await self._attempt(method, path, body)
            except AttemptError as failed:
                await self._pause(failed, attempt)
                attempt += 1

    async def _pause(self, failed: AttemptError, attempt: int) -> None:
        retries = self.settings.retries
        if attempt >= retries:
            tries = "1 attempt" if retries == 0 else f"{retries + 1} attempts"
            raise ModelServerError(
                f"The model server at {self.url} did not answer in {tries} ({str(failed).rstrip('.')}); check that it "
                "runs and that the address is right.",
                url=self.url,
            ) from failed
        wait = max(self.settings.backoff_s * 2**attempt, failed.pause_s) * random.uniform(0.5, 1.5)
        await asyncio.sleep(min(wait, MAX_PAUSE_S))

    async def _attempt(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        timeout_s = self.settings.timeout_s
        try:
            # httpx bounds each read, not their sum.
            async with asyncio.timeout(timeout_s), self._http.stream(method, self.url + path, json=body) as response:
                chunks, size = [], 0
                async for chunk in response.aiter_bytes():
                    size += len(chunk)
                    if size > MAX_REPLY_BYTES:
                        raise self._nonsense(f"more than {MAX_REPLY_BYTES} bytes")
                    chunks.append(chunk)
                return self._accept(response, b"".join(chunks), path)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise AttemptError(f"no answer within {timeout_s:g} s") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
            raise AttemptError(str(error) or type(error).__name__) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._nonsense(f"something that is not HTTP ({type(error).__name__})") from error

    def _accept(self, response: httpx.Response, content: bytes, path: str) -> bytes:
        status = response.status_code
        if status == 200:
            return content
        said = _sentence(content)
        if self._secret:  # some servers repeat the key that they refuse
            said = said.replace(self._secret.header.removeprefix("Bearer "), "***")
        if status in (408, 429) or status >= 500:
            raise AttemptError(
                f"status {status}{said and f': {said}'}", retry_after_s(response.headers.get("retry-after", ""))
            )
        if status in (401, 403):
            raise ModelServerError(
                f"The model server at {self.url} refused the key (status {status}{said and f': {said}'}); put yours "
                f"into {self._key_name}.",
                url=self.url,
                status=status,
            )
        if status == 404 and path != "/models":
            raise ModelServerError(
                f"The model server at {self.url} knows no model {self.model!r}, or has no {path}{said and f' ({said})'}"
                "; check the address, which usually ends in /v1, and the name behind #.",
                url=self.url,
                status=status,
            )
        if said:
            raise ModelServerError(f"The model server at {self.url} refused the request: {said}", status=status)
        raise self._nonsense(f"status {status}")

    def _nonsense(self, what: str) -> ModelServerError:
        return ModelServerError(
            f"{self.url} answered with {what}; check that it is the address of an OpenAI-compatible server, usually "
            "ending in /v1.",
            url=self.url,
        )

    def _attach_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._loop = loop
        self._places = asyncio.Semaphore(self.settings.concurrency)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(self.settings.timeout_s, connect=min(10.0, self.settings.timeout_s)),
            headers={"authorization": self._secret.header} if self._secret else None,
            # Connections that outlive their request would outlive their loop; opening one costs little beside a reply.
            limits=httpx.Limits(max_keepalive_connections=0),
            trust_env=httpx.URL(self.url).host not in LOOPBACK,  # a proxy cannot reach this machine's loopback
        )


def _sentence(content: bytes) -> str:
    """What an error reply says, made harmless and short; empty if it says nothing readable.

    OpenAI and its kin nest the message in ``error``; others have ``message``, ``detail`` or a plain ``error``.
    """
    try:
        value = httpx.Response(200, content=content).json()
    except (ValueError, RecursionError):
        return ""
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = value[key]
    if not isinstance(value, str):
        return ""
    text = neutralise(" ".join(value.split()))
    return text if len(text) <= _MESSAGE_CHARACTERS else f"{text[:_MESSAGE_CHARACTERS]}..."


def _checked(url: str) -> str:
    """A server address without a slash at its end; refuses what is none."""
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        parts = httpx.URL()
    if parts.userinfo:
        raise ModelServerError(f"Keys do not belong into an address; put yours into {KEY_VARIABLE}.")
    if parts.scheme not in ("http", "https") or not parts.host or re.search(r"[\s?#]", url):
        raise ModelServerError(
            f"{neutralise(url[:200])!r} is not the address of a model server; give one such as "
            "http://127.0.0.1:8000/v1."
        )
    return url.rstrip("/")
