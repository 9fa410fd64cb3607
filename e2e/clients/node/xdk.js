// The same day as journey.js, with X's own TypeScript XDK.
import { Client } from "@xdevplatform/xdk"

const [base, token, theirs] = process.argv.slice(2)

const client = new Client({ accessToken: token, baseUrl: base })

const { data: me } = await client.users.getMe()
const mine = []
for (const text of ["one", "two", "three", "four", "five", "six", "seven"]) {
  const { data } = await client.posts.create({ text })
  mine.push(data.id)
}
console.log(`posted ${mine.length}`)

const { data: first, includes } = await client.posts.getById(mine[0], { expansions: ["author_id"], tweetFields: ["created_at", "public_metrics"] })
console.log(`looked up "${first.text}", mine: ${includes.users[0].username === me.username}, retweets: ${first.publicMetrics.retweetCount}`)

const sizes = [], texts = []
for (let paginationToken; ; ) {
  const page = await client.users.getPosts(me.id, { maxResults: 5, ...(paginationToken && { paginationToken }) })
  sizes.push(page.data.length)
  texts.push(...page.data.map((t) => t.text))
  paginationToken = page.meta.nextToken
  if (!paginationToken) break
}
console.log(`paged ${sizes}: ${texts}`)

const { data: retweet } = await client.users.repostPost(me.id, { tweetId: theirs })
const { data: source } = await client.posts.getById(theirs, { tweetFields: ["public_metrics"] })
console.log(`retweeted: ${retweet.retweeted}, retweets: ${source.publicMetrics.retweetCount}`)
const { data: undone } = await client.users.unrepostPost(me.id, theirs)
console.log(`retweeted: ${undone.retweeted}`)

const { data: gone } = await client.posts.delete(mine[0])
console.log(`deleted: ${gone.deleted}`)

try {
  await client.posts.delete(theirs)
} catch (error) {
  console.log(`${error.status} ${error.statusText}: ${error.data.errors.map((e) => e.message)}`)
}
