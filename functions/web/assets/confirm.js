// The page to which links in mail lead: /confirm#verify=TOKEN or /confirm#reset=TOKEN. Without a token it offers to send a mail. It
// sends nothing before somebody presses the button, because programs that scan mail open its links.
const titles = { verify: "Verify your email address", reset: "Choose a new password", ask: "Forgot your password?" };

const element = (id) => document.getElementById(id);

/** call posts to the API. It returns what is wrong, or "" if nothing is. */
async function call(path, body) {
	let answer;
	try {
		answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
	} catch {
		return "Warble could not be reached. Try again.";
	}
	if (answer.ok) return "";
	const problem = await answer.json().catch(() => ({}));
	return (problem.errors ?? []).map((e) => e.message).join("; ") || problem.detail || `Warble answered ${answer.status}. Try again.`;
}

/** sendForm makes a form send its request, and shows done or what is wrong. */
function sendForm(id, done, request) {
	const form = element(id);
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		const button = form.querySelector("button");
		button.disabled = true;
		const wrong = await call(...request(new FormData(form)));
		button.disabled = false;
		element("problem").textContent = wrong;
		element("problem").hidden = wrong === "";
		if (wrong === "") {
			form.hidden = true;
			element("done").textContent = done;
		}
	});
}

let token = "";

sendForm("verify", "Your email address is verified.", () => ["/auth/verify-email", { token }]);
sendForm("reset", "Your password is changed. Log in with the new one.", (form) => ["/auth/password-reset/confirm", { token, new: form.get("new") }]);
sendForm("ask", "If somebody has this address, a mail is on its way.", (form) => ["/auth/password-reset", { email: form.get("email") }]);

/** show reads the token in the link, and removes the token from the address, so that nobody finds it in the history. */
function show() {
	const [kind, text] = location.hash.slice(1).split("=", 2);
	const known = (kind === "verify" || kind === "reset") && text;
	token = known ? text : "";
	if (known) history.replaceState(null, "", location.pathname);
	for (const id of Object.keys(titles)) element(id).hidden = id !== (known ? kind : "ask");
	element("title").textContent = titles[known ? kind : "ask"];
	element("problem").hidden = true;
	element("done").textContent = "";
}

addEventListener("hashchange", show);
show();
