"""An Android app: the page of `export web` among the assets of an APK, in a WebView that answers from them.

The app (`app/android`) is the same for every generator: a classes.dex of 14 KB, beside the Java that it was compiled
from. What differs is the page, the name and the icon, so that building is linking resources, packing and signing.
"""

import getpass
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

from PIL import Image, ImageOps

from progan.commands import AndroidConfig
from progan.errors import ExportError
from progan.export import onnx, web
from progan.export.card import MARK, check_folder
from progan.export.source import Source
from progan.files import locked, output_path, write_whole
from progan.progress import Log

MIN_SDK, TARGET_SDK = 23, 35
DEBIAN = "aapt android-framework-res zipalign apksigner"
"""Debian's packages with what builds an app."""
_FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
_PASSWORD = "progan"
"""Password of our own keystore, which only its owner can read: the format wants one."""


def export(source: Source, out: Path, config: AndroidConfig, log: Log) -> list[Path]:
    """Write the APK `out`, or a Gradle project into the folder `out`."""
    onnx.require()
    icons = _icons(source, config)
    if config.project:
        check_folder(out)
        return _write_project(source, out, config, icons, log)
    out = output_path(str(out), f"{config.package or _package(source.title)}.apk", [".apk"])
    tools = find_tools()
    key, password = _key(tools, config, log)
    runtime = web.runtime_files(config, log)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        web.write_page(source, folder / "assets", config, runtime, log)
        _write_resources(source, folder / "res", config, icons)
        manifest = _parts()["AndroidManifest.xml"].decode()
        package = config.package or _package(source.title)
        manifest = manifest.replace("<manifest ", f'<manifest package="{package}" ', 1)
        (folder / "AndroidManifest.xml").write_text(manifest.replace("${applicationId}", package), encoding="utf-8")
        write_whole(out, _build(tools, folder, config, key, password))
    return [out]


def _parts() -> dict[str, bytes]:
    """Files of the app that are the same for every generator, by path."""
    parts, waiting = dict[str, bytes](), [("", resources.files("progan.app").joinpath("android"))]
    while waiting:
        path, place = waiting.pop()
        for entry in place.iterdir():
            if entry.is_dir():
                waiting.append((f"{path}{entry.name}/", entry))
            else:
                parts[path + entry.name] = entry.read_bytes()
    return dict(sorted(parts.items()))


# Name and icon


def _package(title: str) -> str:
    """Android's name of an app of a title: its Latin letters and digits, or a digest where there are none."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:60]
    return f"net.progan.{word if word[:1].isalpha() else 'app' + hashlib.sha256(title.encode()).hexdigest()[:8]}"


def _icons(source: Source, config: AndroidConfig) -> dict[str, bytes]:
    """The icon for old launchers, and what newer ones cut a shape out of: a third of it lies outside. By path."""
    if config.icon is None:
        picture = web.portrait(source.last, config.icon_seed)
    else:
        try:
            with Image.open(config.icon) as file:
                coloured = ImageOps.exif_transpose(file).convert("RGBA")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ExportError(f"--icon: {config.icon} cannot be read as an image: {error}") from None
        white = Image.new("RGBA", coloured.size, "white")
        square = min(coloured.size)
        picture = ImageOps.fit(Image.alpha_composite(white, coloured).convert("RGB"), (square, square))
    icons = {"icon": web.icon(picture, 192), "foreground": web.icon(picture, 432, maskable=True)}
    return {f"mipmap-xxxhdpi/{name}.png": data for name, data in icons.items()}


def _write_resources(source: Source, folder: Path, config: AndroidConfig, icons: dict[str, bytes]) -> list[Path]:
    """Write the folder `res`: ours, the icons and the name."""
    name = " ".join((config.name or source.title).split())
    # Inside double quotes a resource's apostrophes, @ and ? are themselves.
    quoted = escape(re.sub(r'(["\\])', r"\\\1", "".join(filter(str.isprintable, name))), quote=False)
    strings = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<resources><string name="name">"{quoted}"</string></resources>\n'
    )
    ours = {path.removeprefix("res/"): data for path, data in _parts().items() if path.startswith("res/")}
    return _write(folder, {**ours, **icons, "values/strings.xml": strings.encode()})


def _write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / path, data)
    return [folder / path for path in files]


# Building


@dataclass(frozen=True)
class Tools:
    """Programs that build an app, and the framework that it is linked against."""

    aapt2: str
    zipalign: str
    apksigner: str
    keytool: str
    framework: str


def find_tools() -> Tools:
    """The newest tools of the Android SDK where ANDROID_HOME is set, else Debian's. Raises ExportError without them."""
    home, place, platforms = os.environ.get("ANDROID_HOME"), None, list[Path]()
    remedy = f"apt install {DEBIAN} (Debian, Ubuntu), or set ANDROID_HOME to an Android SDK"
    if home:
        place = str(max((Path(home) / "build-tools").glob("*"), key=_number, default=""))
        platforms = [
            path for path in Path(home).glob("platforms/android-*/android.jar") if _number(path.parent) >= [29]
        ]
        remedy = f"install build-tools and a platform of 29 or higher into ANDROID_HOME ({home}), or unset it"
    found = {name: shutil.which(name, path=place) for name in ("aapt2", "zipalign", "apksigner")}
    java = os.path.join(os.environ.get("JAVA_HOME", ""), "bin")
    found["keytool"] = shutil.which("keytool") or shutil.which("keytool", path=java)
    framework = max(platforms, key=lambda path: _number(path.parent), default=_FRAMEWORK)
    found["framework"] = str(framework) if framework.exists() else None
    if missing := [name for name, path in found.items() if path is None]:
        raise ExportError(f"an Android app needs {', '.join(missing)}: {remedy}")
    return Tools(**{name: path or "" for name, path in found.items()})


def _number(path: Path) -> list[int]:
    """Numbers in a folder's name, for sorting: [35, 0, 1] of `35.0.1`."""
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


def _build(tools: Tools, folder: Path, config: AndroidConfig, key: list[str], password: str) -> bytes:
    """A signed APK of the folder's AndroidManifest.xml, res and assets. Equal input and key give equal bytes."""
    compiled, linked, packed, aligned, signed = (
        folder / name for name in ("res.zip", "linked", "packed", "aligned", "app")
    )
    _run(tools.aapt2, "compile", "--dir", folder / "res", "-o", compiled)
    sdk = ["--min-sdk-version", MIN_SDK, "--target-sdk-version", TARGET_SDK]
    version = ["--version-code", config.version_code, "--version-name", config.version_name]
    manifest = ["--manifest", folder / "AndroidManifest.xml"]
    _run(tools.aapt2, "link", "-I", tools.framework, *manifest, *sdk, *version, "-o", linked, compiled)
    _pack(linked, folder / "assets", packed)
    _run(tools.zipalign, "-f", "-p", 4, packed, aligned)
    # v1 for Android 6, which knows no other; v4 would be a file beside the APK.
    schemes = [f"--v{n}-signing-enabled={str(n < 4).lower()}" for n in (1, 2, 3, 4)]
    _run(tools.apksigner, "sign", *key, *schemes, "--out", signed, aligned, said=password)
    return signed.read_bytes()


def _pack(linked: Path, assets: Path, out: Path) -> None:
    """Write the zip: what aapt2 linked, our code, the page. All of one date, in one order, as zipalign wants it."""
    with zipfile.ZipFile(linked) as base, zipfile.ZipFile(out, "w") as apk:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name)  # of 1980
            # Android refuses an app for Android 11 or later whose resources.arsc is compressed.
            stored = name.endswith((".arsc", ".png"))
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.create_system = 0
            apk.writestr(entry, data)

        for name in base.namelist():
            add(name, base.read(name))
        add("classes.dex", _parts()["classes.dex"])
        for path in sorted(assets.rglob("*")):
            if path.is_file():
                add(f"assets/{path.relative_to(assets).as_posix()}", path.read_bytes())


def _key(tools: Tools, config: AndroidConfig, log: Log) -> tuple[list[str], str]:
    """Options of apksigner that name the key: the user's, or ours, which is made where there is none yet. And what it
    is to read: the password, where the user was asked for it.
    """
    if config.keystore is not None:
        if not Path(config.keystore).is_file():
            raise ExportError(f"--keystore: {config.keystore} does not exist")
        alias = ["--ks-key-alias", config.key_alias] if config.key_alias else []
        key = ["--ks", config.keystore, *alias, "--ks-pass"]
        if config.keystore_password:
            return [*key, config.keystore_password], ""
        try:
            return [*key, "stdin"], getpass.getpass(f"password of {config.keystore}: ")
        except EOFError:
            raise ExportError("nobody was there to give the keystore's password: give --keystore-password") from None
    path = key_path()
    try:
        with locked(path.parent):
            if not path.exists():
                _make_key(tools, path)
                log(f"made a key to sign apps with: {path}. Keep a copy: without it no app can be updated")
    except OSError as error:
        raise ExportError(f"the key cannot be kept in {path.parent}: {error.strerror}") from None
    return ["--ks", str(path), "--ks-pass", f"pass:{_PASSWORD}"], ""


def _make_key(tools: Tools, path: Path) -> None:
    """Make a keystore with an RSA key: its signatures are the same every time, those of elliptic curves are not."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # that only its owner can read
        made = Path(folder) / path.name
        store = ["-keystore", made, "-storetype", "PKCS12", "-storepass", _PASSWORD]
        key = ["-alias", "progan", "-keyalg", "RSA", "-keysize", 4096, "-validity", 36_500, "-dname", "CN=progan"]
        _run(tools.keytool, "-genkeypair", *store, *key)
        made.chmod(0o600)
        made.rename(path)


def key_path() -> Path:
    """Where our own key is kept: with the user's data, since caches are deleted."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "progan" / "android-key.p12"


def _run(program: str, *arguments: object, said: str = "") -> None:
    """Run a tool that reads what is said. Raises ExportError with its answer where it failed."""
    command = [program, *map(str, arguments)]
    done = subprocess.run(command, input=f"{said}\n", capture_output=True, text=True, errors="replace")
    if done.returncode:
        answer = " ".join((done.stderr or done.stdout).split())
        raise ExportError(f"{Path(program).name} failed: {answer[:300] or 'it gave no reason'}")


# A project for Android Studio


def _write_project(source: Source, out: Path, config: AndroidConfig, icons: dict[str, bytes], log: Log) -> list[Path]:
    """Write a Gradle project of the same source; nothing is built."""
    package, parts = config.package or _package(source.title), _parts()
    build = _BUILD.format(
        package=package, min=MIN_SDK, target=TARGET_SDK, code=config.version_code, name=config.version_name
    )
    files = {
        "README.md": _README,
        "settings.gradle": _SETTINGS.format(name=package.rpartition(".")[2]),
        "build.gradle": build,
    }
    main = out / "src" / "main"
    written = _write(out, {name: text.encode() for name, text in files.items()})
    java = {f"java/net/progan/app/{name}": data for name, data in parts.items() if name.endswith(".java")}
    written += _write(main, {"AndroidManifest.xml": parts["AndroidManifest.xml"], **java})
    written += _write_resources(source, main / "res", config, icons)
    written += web.write_page(source, main / "assets", config, web.runtime_files(config, log), log)
    for path in set(main.rglob("*")).difference(written):  # of an earlier export, which was whole until here
        if path.is_file():
            path.unlink()
    return written


_README = f"""{MARK} -->

# An Android app

A Gradle project: open the folder in Android Studio. It was written by progan and not built there: the app that
`progan export android` builds without Gradle is of the same source.
"""
_SETTINGS = """pluginManagement {{
    repositories {{
        google()
        mavenCentral()
        gradlePluginPortal()
    }}
}}
dependencyResolutionManagement {{
    repositories {{
        google()
        mavenCentral()
    }}
}}
rootProject.name = "{name}"
"""
_BUILD = """plugins {{
    id "com.android.application" version "8.7.3"
}}

android {{
    namespace "net.progan.app"
    compileSdk {target}

    defaultConfig {{
        applicationId "{package}"
        minSdk {min}
        targetSdk {target}
        versionCode {code}
        versionName "{name}"
    }}
}}
"""
