"""The OIDC provider of the tests (tests/oidc), and a browser that logs in there."""

import base64
import hashlib
import http.cookiejar
import json
import secrets
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from conftest import ROOT

# What the hub's tokens are for.
HUB = "https://hub.example.org"
CALLBACK = "http://127.0.0.1/callback"
REDIRECTS_MAX = 10


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments, **_options):
        return None


class Browser:
    """Follows redirects by hand, and fills in the provider's one form."""

    def __init__(self):
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(Stay, cookies)

    def send(self, url: str, form: dict | None = None):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            answer = self.opener.open(url, data=data, timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        return answer.headers, answer.read().decode()

    def log_in(self, url: str, form: dict) -> str:
        """The code that the provider gives the client."""
        sent = None
        for _ in range(REDIRECTS_MAX):
            headers, text = self.send(url, sent)
            assert headers["Location"], text
            url = urllib.parse.urljoin(url, headers["Location"])
            if url.startswith(CALLBACK):
                return urllib.parse.parse_qs(urllib.parse.urlparse(url).query)["code"][0]
            sent = form if "/interaction/" in url else None
        raise AssertionError(f"too many redirects: {url}")


class Provider:
    """A running oidc-provider."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["node", str(ROOT / "tests/oidc/provider.mjs")], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("issuer "), "is it installed? `npm ci` in tests/oidc"
        self.issuer = line.split()[1]

    def tokens(self, subject: str, factor: str = "otp", client: str = "notebook", resource: str = HUB,
               **asked) -> dict:
        """What a client gets for a user who logs in: the authorisation code flow with PKCE."""
        browser, verifier = Browser(), secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        resource += "/?" + urllib.parse.urlencode(asked)
        code = browser.log_in(f"{self.issuer}/auth?" + urllib.parse.urlencode({
            "client_id": client, "response_type": "code", "scope": "openid query",
            "redirect_uri": CALLBACK, "resource": resource, "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }), {"login": subject, "factor": factor})
        _, text = browser.send(f"{self.issuer}/token", {
            "grant_type": "authorization_code", "code": code, "client_id": client,
            "redirect_uri": CALLBACK, "code_verifier": verifier, "resource": resource})
        return json.loads(text)

    def token(self, subject: str, **options) -> str:
        return self.tokens(subject, **options)["access_token"]

    def rotate(self, keep: bool):
        """Makes new keys; the old ones stay published if they are kept."""
        Browser().send(f"{self.issuer}/test/rotate?keep={int(keep)}", {})

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def part(token: str, index: int) -> dict:
    """The header (0) or the claims (1) of a JWT."""
    return json.loads(base64.urlsafe_b64decode(token.split(".")[index] + "=="))


def with_part(token: str, index: int, value: dict) -> str:
    """The token with another header or other claims, and the signature that it had."""
    parts = token.split(".")
    parts[index] = base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    return ".".join(parts)
