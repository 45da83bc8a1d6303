"""Trained generators in forms that need no progan. An exporter is a file of this folder and a line of EXPORTERS.

The file has a function `export(source, out, config, log)`: it writes into the folder `out`, which exists (or the file
`out`, see `Exporter.file`), and returns the files it wrote.
"""

from dataclasses import dataclass

from progan.commands import AndroidConfig, ExportConfig, OnnxConfig, WebConfig
from progan.plugins import Registry, is_a


@dataclass(frozen=True)
class Exporter:
    """A kind of export."""

    config: type[ExportConfig]
    about: str
    """Help of its command: the first line is its summary."""
    home: str = ""
    """Module with its `export`, of an exporter from another package."""
    file: str = ""
    """What OUT is, in the help of an exporter that makes OUT itself. Default: a folder, made before."""


_OWN: dict[str, Exporter] = {
    "onnx": Exporter(
        OnnxConfig,
        """Write ONNX graphs that any onnxruntime can run.

        A graph for each resolution: latents (and labels) and the truncation in, images out, for any number at once.
        Each is compared with PyTorch before it is written. A model card, the snapshots and a grid lie beside them.

            progan export onnx runs/digits digits-onnx
            progan export onnx runs/faces faces-onnx --weights fp16 --resolutions 32,64
        """,
    ),
    "web": Exporter(
        WebConfig,
        """Write a page that makes pictures in the browser, without a server.

        A folder for any static host: choose the resolution, generate, morph, keep, save and share. It works offline
        after the first visit and can be installed. Pixels are those of `progan sample` for the same seeds.

            progan export web runs/faces faces-app
            progan export web runs/faces faces-app --runtime onnxruntime-web-1.30.0.tgz

        onnxruntime-web is fetched once by npm and kept in the cache; --runtime takes it from a file.
        """,
    ),
    "android": Exporter(
        AndroidConfig,
        """Write an Android app that makes pictures on the phone, without a network.

        The page of `progan export web` inside an app for Android 6 and later that asks for no permission. It is built
        by Debian's or Ubuntu's aapt, zipalign, apksigner and android-framework-res, or by the Android SDK where
        ANDROID_HOME is set, and signed with a key that is made once and kept: an update needs the same key.

            progan export android runs/faces faces.apk
            progan export android runs/faces faces.apk --name Faces --package org.example.faces
            progan export android runs/faces faces-project --project
        """,
        file="the .apk file to write, or a folder for --project",
    ),
}
EXPORTERS = Registry("exporters", _OWN, is_a(Exporter))
"""Name of a kind -> what its command needs; free of torch."""
