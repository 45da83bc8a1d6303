"""The Android app: its APK as Debian's tools see it, its code in a JVM, and its page in Chromium, served by that code.

enjarify translates the dex to the JVM; stand-ins for Android (android_standins.java) print what the app does to them.
No phone and no emulator has run it.
"""

import base64
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators import write_run
from progan.cli import main
from progan.commands import AndroidConfig, WebConfig
from progan.errors import ConfigError, ExportError
from progan.export import android, onnx, web
from progan.export.source import open_source
from progan.progress import silent
from progan.sampling import load
from progan.sampling.pictures import Drawing

pytest.importorskip("onnx")
needs_tools = pytest.mark.android
ORIGIN = "https://appassets.androidplatform.net"
JAVA = Path(android.__file__).parents[1] / "app" / "android"
CLASSES = ["Assets", "MainActivity", "MainActivity$1", "Pictures", "SharedFiles"]


def tool(*command, **settings):
    """Output of a program; the test is skipped where it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def keys(tmp_path_factory):
    """Keys are kept with the user's data: here, those of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        patch.delenv("ANDROID_HOME", raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def graphs_once():
    """Each graph is made once for all exports: they are the same, and what takes most of an export's time."""
    made, make = {}, onnx.make

    def once(snapshot, weights, metrics):
        key = snapshot.digest, weights
        if key not in made:
            made[key] = make(snapshot, weights, metrics)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "make", once)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def runtime():
    try:
        web.runtime_files(WebConfig(), silent)
    except ExportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tools():
    try:
        return android.find_tools()
    except ExportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def export(run, runtime, tools, tmp_path_factory):
    """Exports a run as the command does; the APK."""

    def export_(**options):
        out = tmp_path_factory.mktemp("out") / "app.apk"
        config = AndroidConfig(**options)
        assert android.export(open_source(run.path, config), out, config, silent) == [out]
        return out

    return export_


@pytest.fixture(scope="module")
def apk(export):
    return export()


def badging(apk):
    return tool("aapt", "dump", "badging", apk)


# The APK


@needs_tools
def test_the_apk_is_signed_aligned_and_asks_for_nothing(apk):
    verified = tool("apksigner", "verify", "--verbose", "--print-certs", apk)
    for scheme in (
        "v1 scheme (JAR signing)",
        "v2 scheme (APK Signature Scheme v2)",
        "v3 scheme (APK Signature Scheme v3)",
    ):
        assert f"Verified using {scheme}: true" in verified
    assert "key size (bits): 4096" in verified
    tool("zipalign", "-c", "-p", 4, apk)
    about = badging(apk)
    for line in ("package: name='net.progan.pictures_like_drawn_things' versionCode='1' versionName='1.0'",
                 "sdkVersion:'23'", "targetSdkVersion:'35'", "application-label:'Pictures like drawn <things>'",
                 "launchable-activity: name='net.progan.app.MainActivity'"):  # fmt: skip
        assert line in about
    assert "permission" not in about
    assert "debuggable" not in about
    with zipfile.ZipFile(apk) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("resources.arsc").compress_type == zipfile.ZIP_STORED
        assert archive.read("classes.dex") == (JAVA / "classes.dex").read_bytes()
        assert len(archive.namelist()) == len(set(archive.namelist()))


@needs_tools
def test_the_answer_names_the_file(run, runtime, tools, tmp_path, capsys):
    """Also where a folder was given, in which it gets the name of the package."""
    assert main(["export", "android", str(run.path), f"{tmp_path}/", "--package", "org.example.faces"]) == 0
    assert f"{tmp_path}/org.example.faces.apk: android of" in capsys.readouterr().out


@needs_tools
def test_its_assets_are_the_page(apk, run, runtime, tmp_path):
    config = WebConfig()
    files = web.write_page(open_source(run.path, config), tmp_path, config, web.runtime_files(config, silent), silent)
    with zipfile.ZipFile(apk) as archive:
        assets = {name for name in archive.namelist() if name.startswith("assets/")}
        assert assets == {f"assets/{file.relative_to(tmp_path).as_posix()}" for file in files}
        for file in files:
            assert archive.read(f"assets/{file.relative_to(tmp_path).as_posix()}") == file.read_bytes()


@needs_tools
def test_equal_input_and_key_give_equal_bytes(apk, export):
    key = android.key_path()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert export().read_bytes() == apk.read_bytes()
    assert key.read_bytes() == before


@needs_tools
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('Tom\'s "faces" <&> \\n', 'Tom\'s "faces" <&> \\n'),
        ("@string/name", "@string/name"),
        ("?attr", "?attr"),
        (" Gesichter \n für\x00 日本 🙂 ", "Gesichter für 日本 🙂"),
    ],
)
def test_any_name_is_the_name(tools, tmp_path, name, shown):
    """What resources and XML give a meaning is no trouble."""
    source = type("", (), {"title": "unused"})()
    android._write_resources(source, tmp_path / "res", AndroidConfig(name=name), {"mipmap/foreground.png": PIXEL})
    (tmp_path / "AndroidManifest.xml").write_text(
        '<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="a.b">'
        '<application android:label="@string/name"/></manifest>'
    )
    tool(tools.aapt2, "compile", "--dir", tmp_path / "res", "-o", tmp_path / "res.zip")
    manifest = ["--manifest", tmp_path / "AndroidManifest.xml"]
    tool(tools.aapt2, "link", "-I", tools.framework, *manifest, "-o", tmp_path / "a.apk", tmp_path / "res.zip")
    # A resource's letters beyond 16 bits are two halves, each in UTF-8.
    strings = tool("aapt", "dump", "strings", tmp_path / "a.apk", errors="surrogatepass")
    assert f": {shown}\n" in strings.encode("utf-16", "surrogatepass").decode("utf-16")


@needs_tools
def test_name_package_icon_version_and_key_are_options(export, tmp_path, monkeypatch):
    picture, store = tmp_path / "icon.webp", tmp_path / "mine.p12"
    Image.new("RGBA", (40, 20), (200, 10, 20, 255)).save(picture, lossless=True)
    monkeypatch.setenv("SECRET", "my secret")
    key = ["-alias", "me", "-keyalg", "RSA", "-keysize", 2048, "-dname", "CN=me", "-storepass:env", "SECRET"]
    tool("keytool", "-genkeypair", "-keystore", store, "-storetype", "PKCS12", *key)
    signing = {"keystore": str(store), "key_alias": "me", "keystore_password": "env:SECRET"}
    options = {"name": "Faces", "package": "org.example.faces", "icon": str(picture), "version_code": 12}
    made = export(version_name="2.1-b", **options, **signing)
    about = badging(made)
    assert "package: name='org.example.faces' versionCode='12' versionName='2.1-b'" in about
    assert "application-label:'Faces'" in about
    assert "CN=me" in tool("apksigner", "verify", "--print-certs", made)
    assert "org.example.faces.files" in tool("aapt", "dump", "xmltree", made, "AndroidManifest.xml")
    with zipfile.ZipFile(made) as archive:
        old, new = (
            np.asarray(Image.open(BytesIO(archive.read(f"res/mipmap-xxxhdpi-v4/{name}.png"))).convert("RGB"))
            for name in ("icon", "foreground")
        )
    assert old.shape == (192, 192, 3)
    assert new.shape == (432, 432, 3)
    assert (old == (200, 10, 20)).all()
    monkeypatch.setenv("SECRET", "another")
    with pytest.raises(ExportError, match=r"apksigner failed: .*password"):
        export(**signing)
    # Where no password is named, it is asked for, and asked by us: what apksigner asks is not shown.
    del signing["keystore_password"]
    monkeypatch.setattr("getpass.getpass", lambda prompt: "my secret" if "mine.p12" in prompt else "")
    assert "CN=me" in tool("apksigner", "verify", "--print-certs", export(**signing))

    def nobody(prompt):
        raise EOFError

    monkeypatch.setattr("getpass.getpass", nobody)
    monkeypatch.setattr(web, "write_page", None)  # nothing is made before
    with pytest.raises(ExportError, match=r"--keystore-password"):
        export(**signing)
    with pytest.raises(ExportError, match=r"--keystore: .* does not exist"):
        export(keystore=str(tmp_path / "none"))
    with pytest.raises(ExportError, match=r"--icon: .*test_android.py cannot be read"):
        export(icon=__file__)


@needs_tools
def test_an_android_sdk_is_used_where_it_is_set(apk, export, tools, tmp_path, monkeypatch):
    """Its newest tools and platform; here they are Debian's, in the places where an SDK has them."""
    for version in ("9.0.0", "35.0.1"):
        folder = tmp_path / "build-tools" / version
        folder.mkdir(parents=True)
    for program in (tools.aapt2, tools.zipalign, tools.apksigner):
        (folder / Path(program).name).symlink_to(program)
    for level in ("9", "35"):
        platform = tmp_path / "platforms" / f"android-{level}"
        platform.mkdir(parents=True)
    (platform / "android.jar").symlink_to(tools.framework)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert android.find_tools().apksigner == str(folder / "apksigner")
    assert android.find_tools().framework == str(platform / "android.jar")
    assert export().read_bytes() == apk.read_bytes()


def test_missing_tools_are_said_with_the_remedy(run, tmp_path, monkeypatch, capsys):
    """In one line, before anything is made."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["export", "android", str(run.path), str(tmp_path / "a.apk")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "aapt2, zipalign, apksigner, keytool" in said
    assert "apt install aapt android-framework-res zipalign apksigner" in said
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert main(["export", "android", str(run.path), str(tmp_path / "a.apk")]) == 2
    assert "sdk" in capsys.readouterr().err
    assert main(["export", "android", str(run.path), str(tmp_path / "a.zip")]) == 2
    assert ".apk" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"package": "faces"}, "--package"),
        ({"package": "org.1x"}, "--package"),
        ({"package": "org.ä"}, "--package"),
        ({"version_name": 'x" y'}, "--version-name"),
        ({"version_code": 0}, "--version-code"),
        ({"keystore_password": "env:X"}, "--keystore"),
        ({"keystore": "k", "keystore_password": "secret"}, "env:VARIABLE"),
    ],
)
def test_options_are_checked(options, word):
    with pytest.raises(ConfigError, match=word):
        AndroidConfig(**options)


@pytest.mark.parametrize(
    ("title", "package"),
    [("Pictures like 3 cats!", "net.progan.pictures_like_3_cats"), ("Größe 2", "net.progan.groe_2")],
)
def test_the_package_is_made_of_the_title(title, package):
    assert android._package(title) == package


def test_titles_without_latin_letters_have_packages_of_their_own():
    names = {android._package(title) for title in ("日本", "中国", "7 日", "")}
    assert len(names) == 4
    for name in names:
        AndroidConfig(package=name)


@needs_tools
def test_a_project_is_of_the_same_source(run, runtime, tmp_path, monkeypatch):
    """No tool is needed for it; a second export replaces it once all of it is there."""
    monkeypatch.setenv("PATH", os.path.dirname(shutil.which("npm") or ""))
    out = tmp_path / "project"
    main_folder, command = out / "src" / "main", ["export", "android", str(run.path), str(out), "--project"]
    (main_folder / "res").mkdir(parents=True)
    (out / "README.md").write_text(android.MARK)
    (main_folder / "res" / "earlier.xml").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(android.web, "write_page", None)
        with pytest.raises(TypeError):
            main([*command, "--resolutions", "8"])
    assert (main_folder / "res" / "earlier.xml").exists()
    for seed in "12":
        assert main([*command, "--icon-seed", seed, "--resolutions", "8"]) == 0
    assert not (main_folder / "res" / "earlier.xml").exists()
    for name in ("MainActivity", "Assets", "Pictures", "SharedFiles"):
        java = main_folder / "java" / "net" / "progan" / "app" / f"{name}.java"
        assert java.read_bytes() == (JAVA / f"{name}.java").read_bytes()
    assert (main_folder / "AndroidManifest.xml").read_bytes() == (JAVA / "AndroidManifest.xml").read_bytes()
    assert len(list((main_folder / "assets" / "models").glob("*.onnx"))) == 1
    build = (out / "build.gradle").read_text()
    for line in ('namespace "net.progan.app"', 'applicationId "net.progan.pictures_like_drawn_things"', "minSdk 23",
                 "targetSdk 35", "versionCode 1", 'versionName "1.0"'):  # fmt: skip
        assert line in build
    assert build.count("{") == build.count("}")
    assert "not built" in (out / "README.md").read_text()
    assert not list(out.rglob("*.dex"))


# The code: the Java and what it was compiled to


def sources(folder):
    """The stand-ins, written out."""
    text = (Path(__file__).parent / "android_standins.java").read_text(encoding="utf-8")
    paths = []
    for part in text.split("\n== ")[1:]:
        name, _, code = part.partition("\n")
        paths.append(folder / name)
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text(code, encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Class paths: the Java compiled with the stand-ins, and the dex translated to a jar."""
    folder = tmp_path_factory.mktemp("code")
    files = [*sources(folder / "source"), *JAVA.glob("*.java")]
    java = ["-nowarn", "-Xlint:-options", "-encoding", "UTF-8", "-source", 8, "-target", 8]
    tool("javac", *java, "-d", folder / "java", *files)
    # It is a program of Debian's python, which is to be the first that it finds.
    tool("enjarify", "-o", folder / "app.jar", JAVA / "classes.dex", env={**os.environ, "PATH": "/usr/bin:/bin"})
    return {"java": str(folder / "java"), "dex": str(folder / "app.jar")}


def listing(class_path):
    """(class, member, descriptor) -> the calls, fields, strings and numbers in it, counted."""
    text = tool("javap", "-c", "-p", "-s", "-cp", class_path, *(f"net.progan.app.{name}" for name in CLASSES))
    found, cls, name, here = {}, "", "", Counter()
    for line in text.splitlines():
        if re.match(r"\S.*\{$", line):
            cls = line
        elif re.match(r"  \S.*;$", line):
            name = re.sub(r"\(.*", "", line.strip())
        elif match := re.match(r"    descriptor: (.*)", line):
            here = found[cls, name, match[1]] = Counter()
        elif match := re.search(r"// ((?:Method|InterfaceMethod|Field|String|class) .*)$", line):
            here[match[1]] += 1
        elif (match := re.search(r"(?:[bs]ipush +|iconst_|ldc.*// (?:int|long) )(\d+)l?$", line)) and int(match[1]) > 1:
            here[match[1]] += 1  # 0 and 1 are also how compilers spell true and false
    return found


@needs_tools
def test_the_dex_is_what_the_java_was_compiled_to(code):
    """The same classes, members and signatures, with the same calls, strings and numbers; or scripts/android-dex."""
    java, dex = listing(code["java"]), listing(code["dex"])
    assert len(java) > 40
    assert sum(java.values(), Counter()).total() > 200
    assert dex == java


@needs_tools
def test_what_the_page_may_call_is_marked(code):
    """Without its annotation a method is none for the page; enjarify leaves annotations out."""
    text = tool("dexdump", "-a", JAVA / "classes.dex")
    marked = re.findall(r"method #\d+ '(\w+)'\n  VISIBILITY_RUNTIME Landroid/webkit/JavascriptInterface;", text)
    assert sorted(marked) == ["begin", "save", "share", "write"]


class Phone:
    """A JVM that runs the app; `tell` it what happens and get what the app does, a line for each."""

    def __init__(self, class_path, apk, cache):
        command = ["java", "-Xshare:auto", "-cp", class_path, "net.progan.app.Phone", str(apk), str(cache)]
        self.cache, pipe = cache, subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")

    def tell(self, *words):
        self._process.stdin.write("\t".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        lines = []
        while (line := self._process.stdout.readline()) != ".\n":
            assert line, "the app died"
            lines.append(line[:-1])
        return lines

    def request(self, url, method="GET"):
        """Status, type and encoding, content."""
        head, content = self.tell("request", method, url)
        return head, base64.b64decode(content)

    def picture(self, name, content, size=3000):
        assert self.tell("begin", name) == ["true"]
        for at in range(0, len(content), size):
            assert self.tell("write", base64.b64encode(content[at : at + size]).decode()) == ["true"]

    def stop(self):
        self._process.stdin.close()
        self._process.wait(120)


@pytest.fixture(scope="module")
def phones(code, apk, tmp_path_factory):
    started = {}

    def phone(kind):
        if kind not in started:
            # Without the Java's own classes the stand-ins are those of both.
            path = code["java"] if kind == "java" else os.pathsep.join([code["dex"], code["java"]])
            started[kind] = Phone(path, apk, tmp_path_factory.mktemp(f"cache-{kind}"))
        return started[kind]

    yield phone
    for each in started.values():
        each.stop()


@pytest.fixture(params=["dex", "java"])
def phone(request, phones):
    """A phone of Android 14 on which the app was just started, by its dex and by its Java."""
    one = phones(request.param)
    shutil.rmtree(one.cache / "shared", ignore_errors=True)
    one.tell("start", 34, "")
    return one


@needs_tools
def test_it_opens_the_page_between_the_bars(phones):
    lines = phones("dex").tell("start", 35, "")
    assert lines == ["JavaScript true", "storage true", "files false", "content false", "offers androidApp",
                     f"loads {ORIGIN}/", "fits true"]  # fmt: skip


@needs_tools
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html utf-8"),
        ("/index.html", "text/html utf-8"),
        ("/index.html?x=1", "text/html utf-8"),
        ("/main.js", "text/javascript utf-8"),
        ("/style.css", "text/css utf-8"),
        ("/progan.json", "application/json utf-8"),
        ("/icons/icon-192.png", "image/png null"),
        ("/runtime/*.wasm", "application/wasm null"),
        ("/models/*16x16*.onnx", "application/octet-stream null"),
    ],
)
def test_requests_are_answered_from_the_assets(phone, apk, path, kind):
    with zipfile.ZipFile(apk) as archive:
        pattern = "assets" + re.sub(r"\?.*", "", path) + ("index.html" if path == "/" else "")
        name = next(name for name in archive.namelist() if re.fullmatch(pattern.replace("*", ".*"), name))
        url = ORIGIN + (name.removeprefix("assets") if "*" in path else path)
        assert phone.request(url) == (f"200 {kind} {{Cache-Control=no-cache}}", archive.read(name))


@needs_tools
@pytest.mark.parametrize(
    ("url", "status"),
    [
        (f"{ORIGIN}/none.js", 404),
        (f"{ORIGIN}/../classes.dex", 404),
        (f"{ORIGIN}/%2e%2e/classes.dex", 404),
        (f"{ORIGIN}/models/", 404),
        (f"{ORIGIN}:8443/index.html", 403),
        ("https://user@appassets.androidplatform.net/index.html", 403),
        ("http://appassets.androidplatform.net/index.html", 403),
        ("https://appassets.androidplatform.net.example/index.html", 403),
        ("https://example.org/", 403),
        ("file:///android_asset/index.html", 403),
        ("content://media/1", 403),
    ],
)
def test_nothing_else_is_answered(phone, url, status):
    head, content = phone.request(url)
    assert head.startswith(f"{status} text/plain ")
    assert content == b""


@needs_tools
def test_only_get_is_answered(phone):
    assert phone.request(f"{ORIGIN}/index.html", "POST")[0].startswith("403 ")


@needs_tools
def test_links_to_other_places_leave_for_the_browser(phone):
    assert phone.tell("link", f"{ORIGIN}/index.html#seed=1") == ["false"]
    view = "starts android.intent.action.VIEW https://example.org/x android.intent.category.BROWSABLE"
    assert phone.tell("link", "https://example.org/x") == [view, "true"]
    for link in ("intent://x#Intent;end", "tel:1", "file:///etc/hosts", "javascript:1"):
        assert phone.tell("link", link) == ["true"]
    phone.tell("lose")
    assert phone.tell("link", "https://example.org/x")[1].endswith(
        "There is no browser on this device to open the link."
    )


@needs_tools
def test_back_goes_back_or_leaves(phone):
    assert phone.tell("back") == ["closes"]
    assert phone.tell("back", "history") == ["goes back"]


@needs_tools
def test_it_comes_back_where_it_was(phone):
    phone.picture("a.png", b"x")
    lines = phone.tell("recreate")
    assert lines[-1] == "restores"
    assert phone.tell("result", 1, "content://place/1")[-1] == f"tells {ORIGIN} Saved."


@needs_tools
def test_without_webview_there_is_a_sentence(phone):
    lines = phone.tell("start", 34, "bare")
    assert lines == [
        "shows This app needs Android System WebView. Install or enable it, and open the app again.",
        "fits true",
    ]
    assert phone.tell("back") == ["closes"]
    phone.tell("result", 1, "")
    phone.tell("recreate")


@needs_tools
def test_from_android_10_on_pictures_go_into_the_gallery(phone):
    content = bytes(range(256)) * 40
    phone.picture("seed-7-16x16.png", content)
    album = "Pictures/-Faces- ä-b"
    values = f"_display_name=seed-7-16x16.png, is_pending=1, mime_type=image/png, relative_path={album}"
    assert phone.tell("save") == [
        f"inserts content://media/images {{{values}}}",
        f"writes w content://media/1 {base64.b64encode(content).decode()}",
        "updates content://media/1 {is_pending=0}",
        f"tells {ORIGIN} Saved in {album}.",
    ]
    phone.tell("start", 34, "full")
    phone.picture("a.png", b"x")
    assert phone.tell("save")[1:] == [f"tells {ORIGIN} The picture could not be saved: is the device full?"]


@needs_tools
@pytest.mark.parametrize(
    ("level", "name", "kind"), [(28, "a.png", "image/png"), (34, "a.onnx", "application/octet-stream")]
)
def test_before_that_and_other_files_go_where_the_user_says(phone, level, name, kind):
    phone.tell("start", level, "")
    phone.picture(name, b"content")
    create, openable = "android.intent.action.CREATE_DOCUMENT", "android.intent.category.OPENABLE"
    assert phone.tell("save") == [f"asks 1 {create} {openable} {kind} android.intent.extra.TITLE={name}"]
    wrote = f"writes w content://place/1 {base64.b64encode(b'content').decode()}"
    assert phone.tell("result", 1, "content://place/1") == [wrote, f"tells {ORIGIN} Saved."]
    assert phone.tell("result", 1, "") == [f"tells {ORIGIN} Not saved."]
    assert phone.tell("result", 2, "content://place/1") == []
    assert phone.tell("result", 1, "content://place/broken") == [
        f"tells {ORIGIN} The picture could not be saved there."
    ]
    phone.tell("lose")
    assert phone.tell("save")[1:] == [f"tells {ORIGIN} This device has no place to save to."]


@needs_tools
def test_other_apps_may_read_what_was_shared(phone):
    phone.picture("b c.png", b"12345")
    uri = "content://org.example.faces.files/b%20c.png"
    send = f"android.intent.action.SEND image/png android.intent.extra.STREAM={uri} flags=1 clip={uri}"
    assert phone.tell("share") == [f"starts CHOOSER {send}"]
    assert phone.tell("open", uri, "r") == [base64.b64encode(b"12345").decode()]
    assert phone.tell("query", uri, "") == ["[_display_name, _size] [[b c.png, 5]]", "image/png"]
    assert phone.tell("query", uri, "_size,other") == ["[_size, other] [[5, null]]", "image/png"]


@needs_tools
def test_other_apps_read_nothing_else(phone):
    phone.picture("a.png", b"1")
    (phone.cache / "secret").write_bytes(b"no")
    place = "content://org.example.faces.files/"
    for path in ("..%2Fsecret", "../secret", "%2e%2e", ".", "", "shared%2F..%2F..%2Fsecret", "none"):
        assert "FileNotFoundException" in phone.tell("open", place + path, "r")[0]
    assert "SecurityException" in phone.tell("open", f"{place}a.png", "rw")[0]
    assert "UnsupportedOperationException" in phone.tell("delete", f"{place}a.png")[0]
    assert phone.tell("query", f"{place}..%2Fsecret", "")[0] == "[_display_name, _size] []"


@needs_tools
def test_names_stay_in_their_folder_and_old_files_go(phone):
    for name in ("../../escaped.png", "/etc/x.png", "..", "", "a/b\\c.png"):
        phone.picture(name, b"1")
    assert sorted(path.name for path in phone.cache.rglob("*")) == sorted(
        [
            "-..-escaped.png",
            "-etc-x.png",
            "progan",
            "a-b-c.png",
            "shared",
            *(["secret"] * (phone.cache / "secret").exists()),
        ]
    )
    old = phone.cache / "shared" / "-etc-x.png"
    os.utime(old, (1e9, 1e9))
    phone.picture("new.png", b"1")
    assert not old.exists()
    assert (phone.cache / "shared" / "a-b-c.png").exists()


@needs_tools
def test_a_full_device_is_said(phone):
    phone.picture("a.png", b"1")
    shutil.rmtree(phone.cache / "shared")
    (phone.cache / "shared").write_bytes(b"no folder")
    assert phone.tell("begin", "a.png") == ["false"]
    assert phone.tell("write", "") == ["false"]
    (phone.cache / "shared").unlink()


# The page in Chromium, served by the dex


def playwright():
    return pytest.importorskip("playwright.sync_api")


BRIDGE = """globalThis.calls = [];
globalThis.androidApp = {
    begin: (name) => { calls.push(["begin", name]); return true; },
    write: (base64) => { calls.push(["write", base64]); return true; },
    save: () => { calls.push(["save"]); postMessage("Saved in Pictures/x."); },
    share: () => { calls.push(["share"]); },
};"""
"""What the app puts into the page: calls are noted here, and carried out by the phone afterwards."""


@pytest.fixture(scope="module")
def open_app(browser, phones):
    """Opens the page as the app shows it; `before` is done to it before it loads."""
    opened = []

    def open_(before=lambda page: None):
        phone = phones("dex")
        phone.tell("start", 34, "")
        opened.append(browser.new_context(**browser.phone))
        asked = []

        def serve(route):
            head, content = phone.request(route.request.url, route.request.method)
            status, kind, encoding, _ = head.split(" ", 3)
            asked.append((int(status), route.request.url))
            charset = "" if encoding == "null" else f"; charset={encoding}"
            route.fulfill(status=int(status), body=content, headers={"Content-Type": kind + charset})

        opened[-1].route("**/*", serve)
        opened[-1].add_init_script(BRIDGE)
        page = opened[-1].new_page()
        page.phone, page.asked, page.wrong = phone, asked, []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda line: page.wrong.append(line.text) if line.type == "error" else None)
        before(page)
        page.goto(ORIGIN)
        return page

    yield open_
    for context in opened:
        context.close()


@pytest.fixture(scope="module")
def app(open_app):
    """The app's page, opened once."""
    page = open_app()
    page.wait_for_selector("#stage[data-drawn]", timeout=120_000)
    return page


def wish(page, words):
    """Shows what a link asks for; the first picture, uint8 [R, R, 3]."""
    page.evaluate("document.getElementById('stage').removeAttribute('data-drawn'), calls.length = 0")
    page.evaluate("words => { location.hash = words; }", words)
    page.wait_for_selector("#stage[data-drawn]", timeout=60_000)
    side, data = page.evaluate("""() => {
        const canvas = document.querySelector("#stage canvas"), {width, height} = canvas;
        return [width, Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data)];
    }""")
    return np.array(data, np.uint8).reshape(side, side, 4)[..., :3]


def called(page, action):
    """What the page called, once it has called for the action."""
    for _ in range(100):
        calls = page.evaluate("calls")
        if calls and calls[-1] == [action]:
            return calls[:-1]
        page.wait_for_timeout(100)
    raise AssertionError(calls)


def sampled(run, seed, resolution):
    """What `progan sample` makes, uint8 [R, R, 3]."""
    return next(iter(Drawing(load(run.path, resolution), [seed], ()).pixels()))[0].permute(1, 2, 0).numpy()


@needs_tools
@pytest.mark.parametrize("resolution", [8, 16])
def test_its_pictures_are_those_of_sample(app, run, resolution):
    shown = wish(app, f"#seed=7&resolution={resolution}")
    assert np.abs(shown.astype(int) - sampled(run, 7, resolution)).max() <= 2
    assert app.wrong == []
    assert {status for status, _ in app.asked} == {200}
    assert any(url.endswith("/worker.js") for _, url in app.asked)
    assert all(url.startswith(f"{ORIGIN}/") for _, url in app.asked)


@needs_tools
def test_nothing_is_kept_twice(app):
    """All files are on the device already: no service worker, no copy in the browser's caches, no offer to install."""
    wish(app, "#seed=2")
    assert app.evaluate("caches.keys()") == []
    assert app.evaluate("navigator.serviceWorker.getRegistrations().then((all) => all.length)") == 0
    assert app.text_content("#offline") == ""
    app.click("#keep")
    assert app.evaluate("Object.values(localStorage).join()").count('"seed":"2"') == 1


@needs_tools
@pytest.mark.parametrize("action", ["save", "share"])
def test_a_picture_is_handed_to_the_app(app, run, action):
    """The page's calls, carried out by the app's own code: the file is the picture, with its seed inside."""
    shown = wish(app, "#seed=11&resolution=16")
    app.click("#save" if action == "save" else "#share-link")
    calls = called(app, action)
    assert calls[0] == ["begin", "seed-11-16x16.png"]
    for call in calls:
        assert app.phone.tell(*call) == ["true"]
    content = (app.phone.cache / "shared" / "seed-11-16x16.png").read_bytes()
    done = app.phone.tell(action)
    if action == "save":
        assert base64.b64decode(done[1].split()[-1]) == content
        playwright().expect(app.locator("#status")).to_have_text("Saved in Pictures/x.")  # as the app told it
    else:
        uri = re.search(r"clip=(\S+)", done[0])[1]
        assert base64.b64decode(app.phone.tell("open", uri, "r")[0]) == content
    saved = Image.open(BytesIO(content))
    assert saved.text["seed"] == "11"
    assert np.array_equal(np.asarray(saved.convert("RGB")), shown)
    assert app.wrong == []


@needs_tools
def test_a_large_picture_goes_in_pieces(app):
    """A file is put together from its pieces; a device without room is said."""
    wish(app, "#seed=1&count=16")
    app.evaluate("""() => {
        HTMLCanvasElement.prototype.toBlob = (done) => done(new Blob([new Uint8Array(100_000).fill(7)]));
    }""")
    app.click("#save")
    pieces = [base64.b64decode(piece) for name, piece in called(app, "save") if name == "write"]
    assert max(map(len, pieces)) < 40_000
    content = b"".join(pieces)
    assert content.count(b"\7") >= 100_000
    assert b"tEXtseed" in content
    app.evaluate("androidApp.write = () => false")
    app.click("#save")
    playwright().expect(app.locator("#status")).to_have_text("This device has no room for the picture.")


@needs_tools
@pytest.mark.parametrize("missing", ["SIMD", "WebAssembly", "syntax"])
def test_a_webview_too_old_has_a_sentence(open_app, missing):
    """One without WebAssembly SIMD, and one that cannot even read the modules."""

    def before(page):
        if missing == "syntax":
            page.route("**/main.js", lambda route: route.fulfill(body="await = ?;", content_type="text/javascript"))
        else:
            script = {"SIMD": "WebAssembly.validate = () => false", "WebAssembly": "delete globalThis.WebAssembly"}
            page.add_init_script(script[missing])

    status = open_app(before).locator("#status")
    playwright().expect(status).to_contain_text("Android System WebView is too old")


PIXEL = web.icon(Image.new("RGB", (4, 4)), 4)
