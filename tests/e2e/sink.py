"""A mail server that is only as good as a test wants it: keeps what it gets, answers as told."""
import contextlib
import socket
import socketserver
import ssl
import threading


class Sink:
    """answers: {verb: reply line or callable(argument) -> reply line}; None as a reply closes."""

    def __init__(self, host, port, answers=None, certificate=None):
        self.answers = answers or {}
        self.messages = []     # dicts: sender, recipients, data, tls
        self.connections = 0
        self.open = set()
        self.commands = []
        self.certificate = certificate
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                sink.connections += 1
                sink.open.add(self.request)
                with contextlib.suppress(OSError, ValueError):
                    sink.serve(self.request)
                sink.open.discard(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self.server = Server((host, port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def reply(self, verb, argument, default):
        answer = self.answers.get(verb, default)
        return answer(argument) if callable(answer) else answer

    def serve(self, sock):
        tls, file = False, sock.makefile("rwb", buffering=0)

        def put(text):
            if text is None:
                sock.shutdown(socket.SHUT_RDWR)
                raise OSError
            sock.sendall(text.encode() + b"\r\n")
        put(self.reply("CONNECT", "", "220 sink.test ESMTP"))
        mail = {}
        while line := file.readline():
            text = line.decode("latin-1").rstrip("\r\n")
            verb, _, argument = text.partition(" ")
            verb = verb.upper()
            self.commands.append(text)
            if verb in ("EHLO", "LHLO"):
                offers = "250-STARTTLS\r\n" if self.certificate and not tls else ""
                put(self.reply(verb, argument, f"250-sink.test\r\n{offers}250-PIPELINING\r\n"
                               "250-8BITMIME\r\n250-DSN\r\n250 SIZE 10000000"))
            elif verb == "STARTTLS" and self.certificate:
                put("220 go")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*self.certificate)
                sock = context.wrap_socket(sock, server_side=True)
                self.open.add(sock)
                file, tls = sock.makefile("rwb", buffering=0), True
            elif verb == "MAIL":
                mail = {"sender": argument, "recipients": [], "tls": tls}
                put(self.reply(verb, argument, "250 2.1.0 ok"))
            elif verb == "RCPT":
                answer = self.reply(verb, argument, "250 2.1.5 ok")
                if answer and answer.startswith("2"):
                    mail["recipients"].append(argument)
                put(answer)
            elif verb == "DATA":
                answer = self.reply(verb, argument, "354 go")
                if not mail.get("recipients") and answer and answer.startswith("3"):
                    answer = "554 5.5.1 no valid recipients"
                put(answer)
                if not answer.startswith("3"):
                    continue
                data = b""
                while (line := file.readline()) != b".\r\n":
                    if not line:
                        return
                    data += line[1:] if line.startswith(b".") else line
                answer = self.reply("END", data, "250 2.0.0 kept")
                if answer and answer.startswith("2"):
                    self.messages.append(dict(mail, data=data))
                put(answer)
            elif verb == "QUIT":
                put("221 2.0.0 bye")
                return
            else:
                put(self.reply(verb, argument, "250 2.0.0 ok"))

    def stop(self):
        """Also ends the connections there are. Safe to call twice."""
        self.server.shutdown()
        self.server.server_close()
        for sock in list(self.open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
