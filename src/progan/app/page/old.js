// For browsers without modules: a sentence instead of a blank page.
var sentence = document.getElementById("status");
if (sentence) sentence.textContent = "This browser is too old for this page. Update it, or use another one.";
