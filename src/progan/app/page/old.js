// For browsers that cannot read the modules, which then say nothing by themselves: a sentence instead of a blank page.
function sayOld() {
  var app = location.hostname === "appassets.androidplatform.net";
  sayInstead(app ? "Android System WebView is too old for this app. Update it in the app store."
    : "This browser is too old for this page. Update it, or use another one.");
}
/** @param {string} text */
function sayInstead(text) {
  var status = document.getElementById("status");
  if (status) status.textContent = text;
}
if (location.protocol === "file:") {
  sayInstead("This page needs a web server. In its folder, run: python -m http.server. Then open http://localhost:8000.");
} else if (!("noModule" in document.createElement("script"))) sayOld();
addEventListener("error", function (event) {
  if (/SyntaxError/.test(event.message)) sayOld();
});
