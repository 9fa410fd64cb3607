"""The same day as node/journey.js, with tweepy."""
import sys

import tweepy
from requests.adapters import HTTPAdapter

base, token, theirs = sys.argv[1:]
x = "https://api.twitter.com"


class ToWarble(HTTPAdapter):
    def send(self, request, **options):
        request.url = base + request.url.removeprefix(x)
        return super().send(request, **options)


client = tweepy.Client(token)
client.session.mount(x, ToWarble())

me = client.get_me(user_auth=False).data
mine = [client.create_tweet(text=text, user_auth=False).data["id"] for text in ("one", "two", "three", "four", "five", "six", "seven")]
print(f"posted {len(mine)}")

found = client.get_tweet(mine[0], expansions=["author_id"], tweet_fields=["created_at", "public_metrics"])
is_mine = str(found.includes["users"][0].username == me.username).lower()
print(f'looked up "{found.data.text}", mine: {is_mine}, retweets: {found.data.public_metrics["retweet_count"]}')

pages = list(tweepy.Paginator(client.get_users_tweets, me.id, max_results=5))
print("paged {}: {}".format(",".join(str(len(p.data)) for p in pages), ",".join(t.text for p in pages for t in p.data)))

# tweepy takes the user's id for these from an OAuth 1 or a PKCE token, which is "id-...": here it is said.
client._get_authenticating_user_id = lambda oauth_1=False: me.id
retweet = client.retweet(theirs, user_auth=False).data
source = client.get_tweet(theirs, tweet_fields=["public_metrics"]).data
print(f'retweeted: {str(retweet["retweeted"]).lower()}, retweets: {source.public_metrics["retweet_count"]}')
print("retweeted: {}".format(str(client.unretweet(theirs, user_auth=False).data["retweeted"]).lower()))

print("deleted: {}".format(str(client.delete_tweet(mine[0], user_auth=False).data["deleted"]).lower()))

try:
    client.delete_tweet(theirs, user_auth=False)
except tweepy.Forbidden as error:
    print(f"{error.response.status_code} {error.response.reason}: {','.join(error.api_messages)}")
