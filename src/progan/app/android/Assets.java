package net.progan.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.Intent;
import android.net.Uri;
import android.webkit.WebResourceRequest;
import android.webkit.WebResourceResponse;
import android.webkit.WebView;
import android.webkit.WebViewClient;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.Collections;

/** Answers every request of the page from the app's assets, as a static host would. No other origin answers at all. */
final class Assets extends WebViewClient {
    /** Reserved for this use: no host on the network has this name. */
    private static final String HOST = "appassets.androidplatform.net";
    static final String ORIGIN = "https://" + HOST;
    private final Activity app;

    Assets(Activity app) {
        this.app = app;
    }

    private static boolean isOurs(Uri url) {
        return "https".equals(url.getScheme()) && HOST.equals(url.getEncodedAuthority());
    }

    @Override
    public WebResourceResponse shouldInterceptRequest(WebView view, WebResourceRequest request) {
        Uri url = request.getUrl();
        if (!isOurs(url) || !"GET".equals(request.getMethod())) return failure(403, "Forbidden");
        String path = url.getPath();
        String name = path == null || path.isEmpty() ? "" : path.substring(1);
        if (name.isEmpty() || name.endsWith("/")) name += "index.html";
        try {
            return answer(200, "OK", type(name), app.getAssets().open(name));
        } catch (IOException missing) {
            return failure(404, "Not Found");
        }
    }

    /** Links to other places leave for the browser. */
    @Override
    @SuppressWarnings("deprecation") // its successor, of API 24, calls it
    public boolean shouldOverrideUrlLoading(WebView view, String link) {
        Uri url = Uri.parse(link);
        if (isOurs(url)) return false;
        if ("https".equals(url.getScheme()) || "http".equals(url.getScheme())) {
            try {
                app.startActivity(new Intent(Intent.ACTION_VIEW, url).addCategory(Intent.CATEGORY_BROWSABLE));
            } catch (ActivityNotFoundException none) {
                ((MainActivity) app).tell("There is no browser on this device to open the link.");
            }
        }
        return true;
    }

    private static WebResourceResponse failure(int code, String reason) {
        return answer(code, reason, "text/plain", new ByteArrayInputStream(new byte[0]));
    }

    private static WebResourceResponse answer(int code, String reason, String type, InputStream body) {
        String encoding = type.startsWith("text/") || type.endsWith("json") ? "utf-8" : null;
        return new WebResourceResponse(
                type, encoding, code, reason, Collections.singletonMap("Cache-Control", "no-cache"), body);
    }

    /** MIME type of a file's name. */
    static String type(String name) {
        switch (name.substring(name.lastIndexOf('.') + 1)) {
            case "html":
                return "text/html";
            case "js":
                return "text/javascript"; // of any other type a module is refused
            case "css":
                return "text/css";
            case "json":
                return "application/json";
            case "wasm":
                return "application/wasm";
            case "png":
                return "image/png";
            default:
                return "application/octet-stream"; // weights
        }
    }
}
