package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

const (
	demoUsers         = 20
	demoTweetsPerUser = 10
	demoPassword      = "a-chorus-at-dawn-2026" // contains no part of a name, because register refuses such passwords
)

// demo adds users and tweets through the API. A second call finds them and adds nothing.
func demo(ctx context.Context, base string) error {
	for i := range demoUsers {
		c := demoClient{ctx: ctx, base: base}
		community := communities[i%len(communities)][0]
		if err := c.enter(i, community); err != nil {
			return err
		}
		var posted struct {
			Meta struct {
				ResultCount int `json:"result_count"`
			}
		}
		if _, err := c.call(http.MethodGet, "/2/users/"+c.id+"/tweets?max_results=100", nil, &posted); err != nil {
			return err
		}
		for n := posted.Meta.ResultCount; n < demoTweetsPerUser; n++ {
			text := fmt.Sprintf("%s, number %d: what demo%02d thinks of it", community, n+1, i+1)
			if _, err := c.call(http.MethodPost, "/2/tweets", map[string]string{"text": text}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

type demoClient struct {
	ctx             context.Context
	base, id, token string
}

// enter registers the i-th user, or logs them in if they exist already.
func (c *demoClient) enter(i int, community string) error {
	name := fmt.Sprintf("demo%02d", i+1)
	credentials := map[string]string{"email": name + "@example.org", "password": demoPassword}
	account := map[string]string{"name": "Demo " + strconv.Itoa(i+1), "username": name, "community": community}
	for key, value := range credentials {
		account[key] = value
	}
	var session struct {
		Token string
		Data  struct{ ID string }
	}
	status, err := c.call(http.MethodPost, "/auth/register", account, &session)
	if status == http.StatusConflict {
		_, err = c.call(http.MethodPost, "/auth/login", credentials, &session)
	}
	c.id, c.token = session.Data.ID, session.Token
	return err
}

// call sends one request, and decodes its answer into answer if that is not nil. A status from 400 up is an error.
func (c *demoClient) call(method, path string, body, answer any) (status int, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(c.ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		reason, _ := io.ReadAll(response.Body) // a problem in JSON; if it cannot be read, the status is enough
		return response.StatusCode, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, reason)
	}
	if answer != nil {
		err = json.NewDecoder(response.Body).Decode(answer)
	}
	return response.StatusCode, err
}
