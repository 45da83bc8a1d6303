package net.progan.app;

import android.app.Activity;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.webkit.WebMessage;
import android.webkit.WebSettings;
import android.webkit.WebView;
import android.widget.FrameLayout;
import android.widget.TextView;

/** One full-screen WebView. Its page comes from the app's assets ({@link Assets}) and from nowhere else. */
public final class MainActivity extends Activity {
    private final Pictures pictures = new Pictures(this);
    /** Null on a device without WebView. */
    private WebView view;

    @Override
    protected void onCreate(Bundle state) {
        super.onCreate(state);
        // From Android 15 on an app draws under the system's bars, too: the frame keeps the page between them, and
        // above the keyboard. (A WebView takes no notice of a padding of its own.)
        FrameLayout frame = new FrameLayout(this);
        frame.setFitsSystemWindows(true);
        setContentView(frame);
        try {
            view = new WebView(this);
        } catch (RuntimeException missing) {
            TextView text = new TextView(this);
            text.setText("This app needs Android System WebView. Install or enable it, and open the app again.");
            frame.addView(text);
            return;
        }
        WebSettings settings = view.getSettings();
        settings.setJavaScriptEnabled(true);
        settings.setDomStorageEnabled(true); // favourites
        settings.setAllowFileAccess(false);
        settings.setAllowContentAccess(false);
        view.setWebViewClient(new Assets(this));
        view.addJavascriptInterface(pictures, "androidApp");
        frame.addView(view);
        if (state != null) pictures.restore(state);
        if (state == null || view.restoreState(state) == null) view.loadUrl(Assets.ORIGIN + "/");
    }

    @Override
    protected void onSaveInstanceState(Bundle state) {
        super.onSaveInstanceState(state);
        pictures.keep(state);
        if (view != null) view.saveState(state);
    }

    @Override
    @SuppressWarnings("deprecation") // its successor needs API 33
    public void onBackPressed() {
        if (view != null && view.canGoBack()) view.goBack();
        else super.onBackPressed();
    }

    @Override
    protected void onActivityResult(int request, int result, Intent data) {
        if (request == Pictures.SAVE) pictures.chosen(result == RESULT_OK && data != null ? data.getData() : null);
        else super.onActivityResult(request, result, data);
    }

    /** Sends the page a sentence to show (app/page/platform.js), from any thread. */
    void tell(final String sentence) {
        runOnUiThread(new Runnable() {
            @Override
            public void run() {
                if (view != null) view.postWebMessage(new WebMessage(sentence), Uri.parse(Assets.ORIGIN));
            }
        });
    }
}
