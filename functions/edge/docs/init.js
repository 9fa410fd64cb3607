// Shows the contract. Whoever registers or logs in with an operation of this page is signed in for all others: the access token stays
// in memory, and the refresh token in the tab's sessionStorage, so that the session survives a reload and the end of the access token.
// A token entered under Authorize is kept in the tab as it is, because it comes without a refresh token.
const entered = "docs-token", refresh = "docs-refresh"

/** opens says whether an operation's answer is a session. */
const opens = ({ path }) => ["/auth/register", "/auth/login", "/auth/refresh"].includes(path)

/** adopt signs in with a session. */
function adopt(session) {
	ui.preauthorizeApiKey("bearer", session.token) // which keeps the token as if it had been entered
	sessionStorage.removeItem(entered)
	sessionStorage.setItem(refresh, session.refresh_token)
}

const post = (path, token) => fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ refresh_token: token }) }).catch(() => null)

/** renew gets another access token, and reports whether it has one. If the session has ended, nobody is signed in any more. */
async function renew() {
	const token = sessionStorage.getItem(refresh)
	const answer = token && await post("/auth/refresh", token)
	if (answer?.ok) adopt(await answer.json())
	if (answer?.status === 401) {
		sessionStorage.removeItem(refresh)
		ui.authActions.logout(["bearer"])
	}
	return Boolean(answer?.ok)
}

const signingIn = () => ({
	statePlugins: {
		auth: {
			wrapActions: {
				authorize: authorize => payload => {
					sessionStorage.setItem(entered, payload.bearer.value)
					sessionStorage.removeItem(refresh)
					return authorize(payload)
				},
				logout: logout => payload => {
					if (sessionStorage.getItem(refresh)) post("/auth/logout", sessionStorage.getItem(refresh)) // if this fails, the session expires later
					sessionStorage.removeItem(entered)
					sessionStorage.removeItem(refresh)
					return logout(payload)
				},
			},
		},
		spec: {
			wrapActions: {
				execute: (execute, { specSelectors }) => async operation => {
					await execute(operation)
					const answer = specSelectors.responseFor(operation.path, operation.method)
					if (opens(operation)) {
						if (answer.get("ok")) adopt(JSON.parse(answer.get("text")))
					} else if (answer.get("status") === 401 && await renew()) {
						await execute(operation)
					}
				},
			},
		},
	},
})

const ui = SwaggerUIBundle({
	url: "/openapi.yaml",
	dom_id: "#swagger-ui",
	deepLinking: true,
	docExpansion: "list",
	validatorUrl: null, // a validator would send the contract to another server
	plugins: [signingIn],
	onComplete() {
		const token = sessionStorage.getItem(entered)
		if (token) ui.preauthorizeApiKey("bearer", token)
		else renew()
	},
})

// Improves Swagger UI for keyboards and screen readers: names the list of servers, makes scrolling examples reachable, and removes
// the addresses of links inside buttons, which do what their button does. A link to an operation still opens it.
new MutationObserver(() => {
	document.querySelector("#servers:not([aria-label])")?.setAttribute("aria-label", "Server")
	for (const example of document.querySelectorAll("pre.microlight:not([tabindex])")) example.tabIndex = 0
	for (const link of document.querySelectorAll("button a[href]")) link.removeAttribute("href")
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true, attributes: true, attributeFilter: ["href"] })
