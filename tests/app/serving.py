"""A server of its own process, as `progan app` starts it, for tests that visit it."""

import json
import subprocess
import sys
from pathlib import Path


class Server:
    """`progan app FOLDER`, until `stop`."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "progan", "app", str(folder), "--no-open", "--port", "0", "--json", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.address = json.loads(line)["address"]
        """With the token."""
        self.home, _, self.token = self.address.partition("?token=")
        self.home = self.home.rstrip("/")

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=120)
