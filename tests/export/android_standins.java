// What stands in for Android where the app's code runs in a JVM (test_android.py): one class after each line "== PATH".
// Signatures are those of Android; what the app does to them is printed, a line for each.

== android/app/Activity.java
package android.app;
import android.content.*;
import android.os.Bundle;
public class Activity extends Context {
    public static final int RESULT_OK = -1;
    public android.view.View content;
    protected void onCreate(Bundle state) {}
    protected void onSaveInstanceState(Bundle state) {}
    protected void onActivityResult(int request, int result, Intent data) {}
    public void onBackPressed() { net.progan.app.Phone.say("closes"); }
    public void setContentView(android.view.View view) { content = view; }
    public final void runOnUiThread(Runnable action) { action.run(); }
    public void startActivityForResult(Intent intent, int request) {
        net.progan.app.Phone.say("asks " + request + " " + intent);
        if (net.progan.app.Phone.bare) throw new ActivityNotFoundException();
    }
}
== android/content/ActivityNotFoundException.java
package android.content;
public class ActivityNotFoundException extends RuntimeException {}
== android/content/ClipData.java
package android.content;
public class ClipData {
    private final android.net.Uri uri;
    private ClipData(android.net.Uri uri) { this.uri = uri; }
    public static ClipData newRawUri(CharSequence label, android.net.Uri uri) { return new ClipData(uri); }
    public String toString() { return uri.toString(); }
}
== android/content/ContentProvider.java
package android.content;
import android.net.Uri;
public abstract class ContentProvider {
    public Context getContext() { return net.progan.app.Phone.activity; }
    public abstract boolean onCreate();
    public abstract String getType(Uri uri);
    public abstract android.database.Cursor query(Uri uri, String[] columns, String where, String[] values, String order);
    public abstract Uri insert(Uri uri, ContentValues values);
    public abstract int update(Uri uri, ContentValues values, String where, String[] arguments);
    public abstract int delete(Uri uri, String where, String[] arguments);
    public android.os.ParcelFileDescriptor openFile(Uri uri, String mode) throws java.io.FileNotFoundException { return null; }
}
== android/content/ContentResolver.java
package android.content;
import android.net.Uri;
import java.io.*;
public class ContentResolver {
    public final Uri insert(Uri uri, ContentValues values) {
        net.progan.app.Phone.say("inserts " + uri + " " + values);
        return net.progan.app.Phone.full ? null : Uri.parse("content://media/1");
    }
    public final int update(Uri uri, ContentValues values, String where, String[] arguments) {
        net.progan.app.Phone.say("updates " + uri + " " + values);
        return 1;
    }
    public final int delete(Uri uri, String where, String[] arguments) {
        net.progan.app.Phone.say("deletes " + uri);
        return 1;
    }
    public final OutputStream openOutputStream(final Uri uri, String mode) throws FileNotFoundException {
        if (uri.toString().endsWith("broken")) throw new SecurityException();
        return new ByteArrayOutputStream() {
            public void close() {
                net.progan.app.Phone.say("writes " + mode + " " + uri + " " + java.util.Base64.getEncoder().encodeToString(toByteArray()));
            }
        };
    }
}
== android/content/ContentValues.java
package android.content;
public final class ContentValues {
    private final java.util.TreeMap<String, Object> map = new java.util.TreeMap<>();
    public void put(String key, String value) { map.put(key, value); }
    public void put(String key, Integer value) { map.put(key, value); }
    public void clear() { map.clear(); }
    public String toString() { return map.toString(); }
}
== android/content/Context.java
package android.content;
public class Context {
    public android.content.res.AssetManager getAssets() { return new android.content.res.AssetManager(); }
    public java.io.File getCacheDir() { return net.progan.app.Phone.cache; }
    public String getPackageName() { return "org.example.faces"; }
    public ContentResolver getContentResolver() { return new ContentResolver(); }
    public android.content.pm.ApplicationInfo getApplicationInfo() { return new android.content.pm.ApplicationInfo(); }
    public android.content.pm.PackageManager getPackageManager() { return null; }
    public void startActivity(Intent intent) {
        net.progan.app.Phone.say("starts " + intent);
        if (net.progan.app.Phone.bare) throw new ActivityNotFoundException();
    }
}
== android/content/Intent.java
package android.content;
import android.net.Uri;
public class Intent implements android.os.Parcelable {
    public static final String ACTION_VIEW = "android.intent.action.VIEW", ACTION_SEND = "android.intent.action.SEND";
    public static final String ACTION_CREATE_DOCUMENT = "android.intent.action.CREATE_DOCUMENT";
    public static final String CATEGORY_BROWSABLE = "android.intent.category.BROWSABLE";
    public static final String CATEGORY_OPENABLE = "android.intent.category.OPENABLE";
    public static final String EXTRA_STREAM = "android.intent.extra.STREAM", EXTRA_TITLE = "android.intent.extra.TITLE";
    public static final int FLAG_GRANT_READ_URI_PERMISSION = 1;
    private String text;
    private Uri data;
    public Intent(String action) { text = action; }
    public Intent(String action, Uri data) { this(action); this.data = data; text += " " + data; }
    private Intent with(String more) { text += " " + more; return this; }
    public Uri getData() { return data; }
    public Intent addCategory(String category) { return with(category); }
    public Intent setType(String type) { return with(type); }
    public Intent putExtra(String name, String value) { return with(name + "=" + value); }
    public Intent putExtra(String name, android.os.Parcelable value) { return with(name + "=" + value); }
    public Intent addFlags(int flags) { return with("flags=" + flags); }
    public void setClipData(ClipData clip) { with("clip=" + clip); }
    public static Intent createChooser(Intent target, CharSequence title) { return new Intent("CHOOSER").with(target.text); }
    public String toString() { return text; }
}
== android/content/pm/ApplicationInfo.java
package android.content.pm;
public class ApplicationInfo {
    public CharSequence loadLabel(PackageManager manager) { return "../Faces: ä/b"; }
}
== android/content/pm/PackageManager.java
package android.content.pm;
public abstract class PackageManager {}
== android/content/res/AssetManager.java
package android.content.res;
import java.io.*;
public final class AssetManager {
    /** From the APK itself. */
    public InputStream open(String name) throws IOException {
        java.util.zip.ZipEntry entry = net.progan.app.Phone.apk.getEntry("assets/" + name);
        if (entry == null) throw new FileNotFoundException(name);
        return net.progan.app.Phone.apk.getInputStream(entry);
    }
}
== android/database/Cursor.java
package android.database;
public interface Cursor {}
== android/database/MatrixCursor.java
package android.database;
public class MatrixCursor implements Cursor {
    private final String[] columns;
    private final java.util.List<String> rows = new java.util.ArrayList<>();
    public MatrixCursor(String[] columns, int capacity) { this.columns = columns; }
    public void addRow(Object[] row) { rows.add(java.util.Arrays.toString(row)); }
    public String toString() { return java.util.Arrays.toString(columns) + " " + rows; }
}
== android/net/Uri.java
package android.net;
public class Uri implements android.os.Parcelable {
    private final java.net.URI uri;
    private Uri(String text) { uri = java.net.URI.create(text); }
    public static Uri parse(String text) { return new Uri(text); }
    public String getScheme() { return uri.getScheme(); }
    public String getEncodedAuthority() { return uri.getRawAuthority(); }
    public String getPath() { return uri.getPath(); }
    public String getLastPathSegment() {
        String path = uri.getRawPath();
        if (path == null || path.length() < 2) return null;
        return Uri.parse("x:/" + path.substring(path.lastIndexOf('/') + 1)).getPath().substring(1);
    }
    public String toString() { return uri.toString(); }
    public static final class Builder {
        private String text = "";
        public Builder scheme(String scheme) { text += scheme + "://"; return this; }
        public Builder authority(String authority) { text += authority; return this; }
        public Builder appendPath(String name) {
            try {
                text += "/" + new java.net.URI(null, null, name, null).getRawPath().replace("/", "%2F");
            } catch (java.net.URISyntaxException error) {
                throw new AssertionError(error);
            }
            return this;
        }
        public Uri build() { return new Uri(text); }
    }
}
== android/os/Build.java
package android.os;
public class Build {
    public static class VERSION { public static int SDK_INT; }
}
== android/os/Bundle.java
package android.os;
public class Bundle {
    public final java.util.Map<String, String> map = new java.util.HashMap<>();
    public void putString(String key, String value) { map.put(key, value); }
    public String getString(String key) { return map.get(key); }
}
== android/os/Parcelable.java
package android.os;
public interface Parcelable {}
== android/os/ParcelFileDescriptor.java
package android.os;
public class ParcelFileDescriptor {
    public static final int MODE_READ_ONLY = 0x10000000;
    public java.io.File file;
    public static ParcelFileDescriptor open(java.io.File file, int mode) throws java.io.FileNotFoundException {
        if (mode != MODE_READ_ONLY) throw new AssertionError("not read only");
        ParcelFileDescriptor descriptor = new ParcelFileDescriptor();
        descriptor.file = file;
        return descriptor;
    }
}
== android/provider/MediaStore.java
package android.provider;
public final class MediaStore {
    public static final class Images {
        public static final class Media {
            public static final android.net.Uri EXTERNAL_CONTENT_URI = android.net.Uri.parse("content://media/images");
        }
    }
}
== android/provider/OpenableColumns.java
package android.provider;
public interface OpenableColumns { String DISPLAY_NAME = "_display_name", SIZE = "_size"; }
== android/util/Base64.java
package android.util;
public class Base64 {
    public static final int DEFAULT = 0;
    public static byte[] decode(String text, int flags) { return java.util.Base64.getDecoder().decode(text); }
}
== android/view/View.java
package android.view;
public class View {
    public boolean fits;
    public void setFitsSystemWindows(boolean fits) { this.fits = fits; }
}
== android/view/ViewGroup.java
package android.view;
public abstract class ViewGroup extends View {
    public java.util.List<View> children = new java.util.ArrayList<>();
    public void addView(View child) { children.add(child); }
}
== android/webkit/JavascriptInterface.java
package android.webkit;
import java.lang.annotation.*;
@Retention(RetentionPolicy.RUNTIME) @Target(ElementType.METHOD)
public @interface JavascriptInterface {}
== android/webkit/WebBackForwardList.java
package android.webkit;
public abstract class WebBackForwardList {}
== android/webkit/WebMessage.java
package android.webkit;
public class WebMessage {
    public final String data;
    public WebMessage(String data) { this.data = data; }
}
== android/webkit/WebResourceRequest.java
package android.webkit;
public interface WebResourceRequest { android.net.Uri getUrl(); String getMethod(); }
== android/webkit/WebResourceResponse.java
package android.webkit;
public class WebResourceResponse {
    public final String text;
    public final java.io.InputStream body;
    public WebResourceResponse(String type, String encoding, int code, String reason,
            java.util.Map<String, String> headers, java.io.InputStream body) {
        if (reason.isEmpty()) throw new IllegalArgumentException("Android refuses this");
        text = code + " " + type + " " + encoding + " " + headers;
        this.body = body;
    }
}
== android/webkit/WebSettings.java
package android.webkit;
public abstract class WebSettings {
    public abstract void setJavaScriptEnabled(boolean on);
    public abstract void setDomStorageEnabled(boolean on);
    public abstract void setAllowFileAccess(boolean on);
    public abstract void setAllowContentAccess(boolean on);
}
== android/webkit/WebView.java
package android.webkit;
import android.os.Bundle;
public class WebView extends android.view.View {
    public WebViewClient client;
    public Object pictures;
    public boolean history;
    public WebView(android.content.Context context) {
        if (net.progan.app.Phone.bare) throw new RuntimeException("no WebView");
    }
    public WebSettings getSettings() {
        return new WebSettings() {
            public void setJavaScriptEnabled(boolean on) { net.progan.app.Phone.say("JavaScript " + on); }
            public void setDomStorageEnabled(boolean on) { net.progan.app.Phone.say("storage " + on); }
            public void setAllowFileAccess(boolean on) { net.progan.app.Phone.say("files " + on); }
            public void setAllowContentAccess(boolean on) { net.progan.app.Phone.say("content " + on); }
        };
    }
    public void setWebViewClient(WebViewClient client) { this.client = client; }
    public void addJavascriptInterface(Object object, String name) { pictures = object; net.progan.app.Phone.say("offers " + name); }
    public void loadUrl(String url) { net.progan.app.Phone.say("loads " + url); }
    public void postWebMessage(WebMessage message, android.net.Uri to) { net.progan.app.Phone.say("tells " + to + " " + message.data); }
    public boolean canGoBack() { return history; }
    public void goBack() { net.progan.app.Phone.say("goes back"); }
    public WebBackForwardList saveState(Bundle state) { state.putString("url", "kept"); return null; }
    public WebBackForwardList restoreState(Bundle state) {
        if (state.getString("url") == null) return null;
        net.progan.app.Phone.say("restores");
        return new WebBackForwardList() {};
    }
}
== android/webkit/WebViewClient.java
package android.webkit;
public class WebViewClient {
    public WebResourceResponse shouldInterceptRequest(WebView view, WebResourceRequest request) { return null; }
    public boolean shouldOverrideUrlLoading(WebView view, String url) { return false; }
}
== android/widget/FrameLayout.java
package android.widget;
public class FrameLayout extends android.view.ViewGroup {
    public FrameLayout(android.content.Context context) {}
}
== android/widget/TextView.java
package android.widget;
public class TextView extends android.view.View {
    public TextView(android.content.Context context) {}
    public final void setText(CharSequence text) { net.progan.app.Phone.say("shows " + text); }
}
== net/progan/app/Phone.java
package net.progan.app;
import android.net.Uri;
import android.os.Bundle;
import android.webkit.*;
import java.io.*;
import java.util.*;
/** The phone: carries out the commands that it reads, a line each with tabs, and prints what the app does; then a dot. */
public class Phone {
    public static File cache;
    public static MainActivity activity;
    public static java.util.zip.ZipFile apk;
    /** Without other apps and without WebView; without room in the gallery. */
    public static boolean bare, full;

    public static void say(String line) { System.out.println(line); }

    private static WebView view() { return (WebView) ((android.widget.FrameLayout) activity.content).children.get(0); }

    private static String base64(InputStream in) throws IOException {
        return Base64.getEncoder().encodeToString(in.readAllBytes());
    }

    public static void main(String[] arguments) throws Exception {
        apk = new java.util.zip.ZipFile(arguments[0]);
        cache = new File(arguments[1]);
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8"));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        SharedFiles provider = new SharedFiles();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split("\t", -1);
            try {
                carryOut(provider, words);
            } catch (IOException | RuntimeException error) {
                say(error.toString());
            }
            say(".");
        }
    }

    private static void carryOut(SharedFiles provider, final String[] words) throws IOException {
        switch (words[0]) {
            case "begin": say("" + ((Pictures) view().pictures).begin(words[1])); break;
            case "write": say("" + ((Pictures) view().pictures).write(words[1])); break;
            case "save": ((Pictures) view().pictures).save(); break;
            case "share": ((Pictures) view().pictures).share(); break;
            case "start":
                android.os.Build.VERSION.SDK_INT = Integer.parseInt(words[1]);
                full = words[2].equals("full");
                bare = words[2].equals("bare");
                activity = new MainActivity();
                activity.onCreate(null);
                say("fits " + activity.content.fits);
                break;
            case "recreate":
                Bundle state = new Bundle();
                activity.onSaveInstanceState(state);
                activity = new MainActivity();
                activity.onCreate(state);
                break;
            case "lose": bare = true; break; // its other apps
            case "request":
                WebResourceResponse answer = view().client.shouldInterceptRequest(view(), new WebResourceRequest() {
                    public Uri getUrl() { return Uri.parse(words[2]); }
                    public String getMethod() { return words[1]; }
                });
                say(answer.text);
                say(base64(answer.body));
                break;
            case "link": say("" + view().client.shouldOverrideUrlLoading(view(), words[1])); break;
            case "back":
                if (!activity.content.fits) throw new AssertionError();
                if (words.length > 1) view().history = true;
                activity.onBackPressed();
                break;
            case "result":
                android.content.Intent data = words[2].isEmpty() ? null : new android.content.Intent("", Uri.parse(words[2]));
                activity.onActivityResult(Integer.parseInt(words[1]), words[2].isEmpty() ? 0 : -1, data);
                break;
            case "open": say(base64(new FileInputStream(provider.openFile(Uri.parse(words[1]), words[2]).file))); break;
            case "query":
                say("" + provider.query(Uri.parse(words[1]), words[2].isEmpty() ? null : words[2].split(","), null, null, null));
                say(provider.getType(Uri.parse(words[1])));
                break;
            case "delete": provider.delete(Uri.parse(words[1]), null, null); break;
            default: throw new AssertionError(words[0]);
        }
    }
}
