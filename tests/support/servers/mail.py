"""A mail server that accepts every mail, for tests of an SMTP client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.stream_server import stream_server


class MailServer:
    """Supports the SMTP commands of one mail, without TLS.

    `refuses` is a command that it rejects, `later` how many mails it defers with 451, `drops` how many connections it
    closes without a word.
    """

    def __init__(self, refuses: str = "", later: int = 0, drops: int = 0) -> None:
        self.refuses = refuses
        self.later = later
        self.drops = drops
        self.commands: list[str] = []
        self.text = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.drops:
            self.drops -= 1
            writer.close()
            return
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            self.commands.append(line[:4].upper() + line[4:])
            word = line.partition(" ")[0].upper()
            if word == self.refuses:
                writer.write(f"550 no, {line}\r\n".encode())
            elif word == "RCPT" and self.later:
                self.later -= 1
                writer.write(b"451 try again later\r\n")
            elif word == "DATA":
                writer.write(b"354 go on\r\n")
                self.text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                writer.write(b"250 taken\r\n")
            else:
                writer.write(b"250-here\r\n250 AUTH PLAIN\r\n" if word == "EHLO" else b"250 fine\r\n")
            if word == "QUIT":
                break
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def mail_server(refuses: str = "", later: int = 0, drops: int = 0) -> AsyncIterator[tuple[MailServer, int]]:
    """Yield a server and its port, on every address of loopback."""
    mail = MailServer(refuses, later, drops)
    async with stream_server(mail.serve) as port, stream_server(mail.serve, port, host="127.0.0.2"):
        yield mail, port
