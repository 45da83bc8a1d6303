package net.progan.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.ContentResolver;
import android.content.ContentValues;
import android.content.Intent;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.provider.MediaStore;
import android.util.Base64;
import android.webkit.JavascriptInterface;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/**
 * Files that leave the page. It hands them over with {@link #begin} and {@link #write}, and has the last one saved or
 * shared; what came of it is told to it as a sentence.
 *
 * <p>The page calls the methods for JavaScript on a thread that is not that of the user interface.
 */
public final class Pictures {
    static final int SAVE = 1;
    private static final long DAY = 24 * 60 * 60 * 1000L;
    private static final String PENDING = "pending";
    private final MainActivity app;
    private volatile File file;

    Pictures(MainActivity app) {
        this.app = app;
    }

    /** Begins a file; false if there is no room. */
    @JavascriptInterface
    public boolean begin(String name) {
        File folder = SharedFiles.folder(app);
        folder.mkdirs();
        File[] files = folder.listFiles();
        if (files == null) return false;
        long now = System.currentTimeMillis();
        for (File old : files) if (now - old.lastModified() > DAY) old.delete(); // who got them has read them
        file = new File(folder, plain(name));
        file.delete();
        return write("");
    }

    /** Appends bytes to the file; false if there is no room. */
    @JavascriptInterface
    public boolean write(String base64) {
        try (OutputStream out = new FileOutputStream(file, true)) {
            out.write(Base64.decode(base64, Base64.DEFAULT));
            return true;
        } catch (IOException full) {
            return false;
        }
    }

    /** Saves the file into the gallery (from Android 10 on, where that needs no permission), or where the user says. */
    @JavascriptInterface
    public void save() {
        String type = Assets.type(file.getName());
        if (Build.VERSION.SDK_INT >= 29 && type.startsWith("image/")) {
            toGallery(type);
            return;
        }
        Intent dialog = new Intent(Intent.ACTION_CREATE_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE);
        try {
            app.startActivityForResult(dialog.setType(type).putExtra(Intent.EXTRA_TITLE, file.getName()), SAVE);
        } catch (ActivityNotFoundException none) {
            app.tell("This device has no place to save to.");
        }
    }

    /** Offers the file to other apps. */
    @JavascriptInterface
    public void share() {
        Uri uri = SharedFiles.uri(app, file);
        Intent send = new Intent(Intent.ACTION_SEND).setType(Assets.type(file.getName()));
        send.putExtra(Intent.EXTRA_STREAM, uri).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
        send.setClipData(ClipData.newRawUri(file.getName(), uri)); // what the permission to read is granted by
        app.startActivity(Intent.createChooser(send, null));
    }

    /** Writes the file where the user chose to; null: the dialog was left. */
    void chosen(Uri place) {
        if (place == null || file == null) {
            app.tell("Not saved.");
            return;
        }
        try {
            copy(place);
            app.tell("Saved.");
        } catch (IOException | RuntimeException error) { // of another app's provider
            app.tell("The picture could not be saved there.");
        }
    }

    /** The dialog may outlive this activity. */
    void keep(Bundle state) {
        if (file != null) state.putString(PENDING, file.getName());
    }

    void restore(Bundle state) {
        String name = state.getString(PENDING);
        if (name != null) file = new File(SharedFiles.folder(app), plain(name));
    }

    private void toGallery(String type) {
        ContentResolver resolver = app.getContentResolver();
        String album = plain(app.getApplicationInfo().loadLabel(app.getPackageManager()).toString());
        ContentValues values = new ContentValues();
        values.put("_display_name", file.getName());
        values.put("mime_type", type);
        values.put("relative_path", "Pictures/" + album);
        values.put("is_pending", 1);
        Uri uri = null;
        try {
            uri = resolver.insert(MediaStore.Images.Media.EXTERNAL_CONTENT_URI, values);
            if (uri == null) throw new IOException();
            copy(uri);
            values.clear();
            values.put("is_pending", 0);
            resolver.update(uri, values, null, null);
            app.tell("Saved in Pictures/" + album + ".");
        } catch (IOException | RuntimeException error) {
            if (uri != null) resolver.delete(uri, null, null);
            app.tell("The picture could not be saved: is the device full?");
        }
    }

    private void copy(Uri place) throws IOException {
        try (InputStream in = new FileInputStream(file);
                OutputStream out = app.getContentResolver().openOutputStream(place, "w")) {
            if (out == null) throw new IOException();
            byte[] buffer = new byte[1 << 16];
            for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) out.write(buffer, 0, n);
        }
    }

    /** The name without what could lead to another folder. */
    private static String plain(String name) {
        String plain = name.replaceAll("[^\\p{L}\\p{N} ._-]", "-").replaceFirst("^[. ]+", "").trim();
        return plain.isEmpty() ? "progan" : plain;
    }
}
