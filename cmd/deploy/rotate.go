package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// nextSecret has the key that will sign after the present one.
	nextSecret = "warble-token-next"
	// switchedAt is the annotation with the time when the private key was last replaced.
	switchedAt = "warble.dev/switched-at"
	// mountDelay is longer than a node takes to show a changed config map to its pods: a minute, plus the age of its cache.
	mountDelay = 3 * time.Minute
	// tokenLife is the life of a token if no manifest sets TOKEN_TTL. Clocks may differ by clockSkew.
	tokenLife = time.Hour
	clockSkew = time.Minute
)

// rotateKeys makes the next of package token's three steps: add the next key to the public set; sign with it; remove the old key from the set.
// Between two steps, pods and tokens need time. rotateKeys refuses a step that comes too early.
func (d *deployment) rotateKeys(ctx context.Context) error {
	all, err := d.readHoldings(ctx)
	if err != nil {
		return err
	}
	private, public, next := all.secret(privateSecret), all.configMap(publicMap), all.secret(nextSecret)
	if _, ok := private.value(privateKey); !ok {
		return fmt.Errorf("the cluster has no secret %s with the key %s: run make deploy first", privateSecret, privateKey)
	}
	switched := private.Metadata.Annotations[switchedAt]
	switch {
	case next != nil:
		return d.switchKeys(ctx, all, next, public)
	case switched != "":
		return d.retireKeys(ctx, all, switched, private)
	}
	pair, err := completeKeyPair(nil, public)
	if err != nil {
		return err
	}
	if err := d.put(ctx, all, "configmap", publicMap, map[string]string{publicKey: pair.public}); err != nil {
		return err
	}
	if err := d.put(ctx, all, "secret", nextSecret, map[string]string{privateKey: pair.private}); err != nil {
		return err
	}
	d.say("step 1 of 3: functions accept the next key. Run this again in %s or later", mountDelay)
	return nil
}

func (d *deployment) switchKeys(ctx context.Context, all holdings, next, public *held) error {
	if err := requirePassed("the next key was added", next.Metadata.CreationTimestamp, mountDelay); err != nil {
		return err
	}
	pair, err := completeKeyPair(next, public)
	if err != nil {
		return err
	}
	now := map[string]string{switchedAt: time.Now().UTC().Format(time.RFC3339)}
	if err := d.write(ctx, all.secret(privateSecret), "secret", privateSecret, map[string]string{privateKey: pair.private}, now); err != nil {
		return err
	}
	if err := d.cluster.Delete(ctx, "v1/secrets", nextSecret); err != nil {
		return err
	}
	d.say("step 2 of 3: register and login sign with the next key. Run this again in %s or later", mountDelay+d.tokenLife())
	return nil
}

func (d *deployment) retireKeys(ctx context.Context, all holdings, switched string, private *held) error {
	if err := requirePassed("the key was switched", switched, mountDelay+d.tokenLife()); err != nil {
		return err
	}
	pair, err := completeKeyPair(private, nil)
	if err != nil {
		return err
	}
	if err := d.put(ctx, all, "configmap", publicMap, map[string]string{publicKey: pair.public}); err != nil {
		return err
	}
	if err := d.write(ctx, all.secret(privateSecret), "secret", privateSecret, map[string]string{privateKey: pair.private}, nil); err != nil {
		return err
	}
	d.say("step 3 of 3: the old key is no longer accepted")
	return nil
}

// requirePassed returns an error if less than wait has passed since at.
func requirePassed(what, at string, wait time.Duration) error {
	then, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return fmt.Errorf("%s at %q: expected a time such as 2026-12-01T09:00:00Z in the secret's metadata", what, at)
	}
	if rest := time.Until(then.Add(wait)); rest > 0 {
		return fmt.Errorf("%s at %s, less than %s ago: try again in %s", what, at, wait, rest.Round(time.Second))
	}
	return nil
}

// tokenLife returns how long the longest-lived token is accepted.
func (d *deployment) tokenLife() time.Duration {
	life := tokenLife
	for _, f := range d.functions {
		for _, variable := range f.Container().Env {
			if set, err := time.ParseDuration(variable.Value); variable.Name == "TOKEN_TTL" && err == nil {
				life = max(life, set)
			}
		}
	}
	return life + clockSkew
}
