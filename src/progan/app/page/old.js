// For browsers that cannot read the modules, which then say nothing by themselves: a sentence instead of a blank page.
function sayOld() {
  var status = document.getElementById("status"), app = location.hostname === "appassets.androidplatform.net";
  if (status) status.textContent = app ? "Android System WebView is too old for this app. Update it in the app store."
    : "This browser is too old for this page. Update it, or use another one.";
}
if (!("noModule" in document.createElement("script"))) sayOld();
addEventListener("error", function (event) {
  if (/SyntaxError/.test(event.message)) sayOld();
});
