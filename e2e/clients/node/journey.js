// One user's day with twitter-api-v2, on the Warble at the URL that is the first argument. The second is the user's token,
// the third the id of somebody else's tweet. It prints what it did, one thing a line, and no ids.
import http from "node:http"
import { TwitterApi } from "twitter-api-v2"

const [base, token, theirs] = process.argv.slice(2)

const toWarble = { onBeforeRequest: ({ computedParams: p }) => { p.url = new URL(p.url.pathname + p.url.search, base) } }
const client = new TwitterApi(token, { httpAgent: new http.Agent(), plugins: [toWarble] })

const { data: me } = await client.v2.me()
const mine = []
for (const text of ["one", "two", "three", "four", "five", "six", "seven"]) {
  const { data } = await client.v2.tweet(text)
  mine.push(data.id)
}
console.log(`posted ${mine.length}`)

const { data: first, includes } = await client.v2.singleTweet(mine[0], { expansions: ["author_id"], "tweet.fields": ["created_at", "public_metrics"] })
console.log(`looked up "${first.text}", mine: ${includes.users[0].username === me.username}, retweets: ${first.public_metrics.retweet_count}`)

const timeline = await client.v2.userTimeline(me.id, { max_results: 5 })
const sizes = [timeline.tweets.length]
while (!timeline.done) {
  const before = timeline.tweets.length
  await timeline.fetchNext()
  sizes.push(timeline.tweets.length - before)
}
console.log(`paged ${sizes}: ${timeline.tweets.map((t) => t.text)}`)

const { data: retweet } = await client.v2.retweet(me.id, theirs)
const { data: source } = await client.v2.singleTweet(theirs, { "tweet.fields": ["public_metrics"] })
console.log(`retweeted: ${retweet.retweeted}, retweets: ${source.public_metrics.retweet_count}`)
const { data: undone } = await client.v2.unretweet(me.id, theirs)
console.log(`retweeted: ${undone.retweeted}`)

const { data: gone } = await client.v2.deleteTweet(mine[0])
console.log(`deleted: ${gone.deleted}`)

try {
  await client.v2.deleteTweet(theirs)
} catch (error) {
  console.log(`${error.message}; ${error.code} ${error.data.title}: ${error.errors.map((e) => e.message)}; limit ${error.rateLimit.remaining < error.rateLimit.limit}`)
}
