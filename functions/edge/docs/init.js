// Shows the contract. The token entered under Authorize is kept in the tab, so that it survives a reload.
const kept = "docs-token"

const keeping = () => ({
	statePlugins: {
		auth: {
			wrapActions: {
				authorize: authorize => payload => {
					sessionStorage.setItem(kept, payload.bearer.value)
					return authorize(payload)
				},
				logout: logout => payload => {
					sessionStorage.removeItem(kept)
					return logout(payload)
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
	plugins: [keeping],
	onComplete() {
		const token = sessionStorage.getItem(kept)
		if (token) ui.preauthorizeApiKey("bearer", token)
	},
})

// Improves Swagger UI for keyboards and screen readers: names the list of servers, makes scrolling examples reachable, and removes
// the addresses of links inside buttons, which do what their button does. A link to an operation still opens it.
new MutationObserver(() => {
	document.querySelector("#servers:not([aria-label])")?.setAttribute("aria-label", "Server")
	for (const example of document.querySelectorAll("pre.microlight:not([tabindex])")) example.tabIndex = 0
	for (const link of document.querySelectorAll("button a[href]")) link.removeAttribute("href")
}).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true, attributes: true, attributeFilter: ["href"] })
