// The auth service. It says whose token this is, and checks that the account exists.
"use strict"

const jwt = require("jsonwebtoken")
const { serve, wrap } = require("./service")

serve("auth", (app, { pool }) => {
  app.get("/auth/validate", wrap(async (req, res) => {
    const token = (req.get("authorization") || "").replace(/^Bearer /, "")
    let claims
    try {
      claims = jwt.verify(token, process.env.JWT_SECRET, { algorithms: ["HS256"] })
    } catch {
      res.status(401).json({ error: "invalid token" })
      return
    }
    const { rows } = await pool.query("select id, username, name, created_at from users where id = $1", [claims.sub])
    if (rows.length === 0) {
      res.status(401).json({ error: "no such user" })
      return
    }
    res.json({ valid: true, user: rows[0] })
  }))
})
