package policy

import (
	"strings"
	"testing"
)

func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	e := newEstimator()
	for _, password := range []string{
		"password", "password1", "Password123", "p@ssw0rd", "P@$$w0rd1!", "drowssap", "passwordpassword",
		"12345678", "123456789", "87654321", "1234567890", "11111111", "aaaaaaaa", "abcdefgh", "12341234", "abcabcabc",
		"qwertyuiop", "qwerty123", "asdfghjk", "1qaz2wsx", "zxcvbnm123", "iloveyou", "letmein1", "monkey12", "sunshine7",
		"football!", "jennifer", "Jennifer1", "superman", "trustno1", "warble123", "correcthandle1",
		strings.Repeat("a", 128), strings.Repeat("password", 16), "ab" + strings.Repeat("1", 126),
	} {
		if common, err := e.common(password, "correcthandle"); err != nil || !common {
			t.Errorf("%q passes (error %v)", password, err)
		}
	}
	for _, password := range []string{
		"correct horse battery staple", "correcthorsebatterystaple", "xkzjq48!mmvb2", "vT9#qLx2", "D7f!kq0zLw",
		"пароль-на-кухне", "密码很长很长而且没人知道的", "a-quiet-otter-juggles", "éàüñøßæœ", "🦊🐻🐼🐨🐯🦁",
	} {
		if common, err := e.common(password, "ada"); err != nil || common {
			t.Errorf("%q is refused (error %v)", password, err)
		}
	}
}

func BenchmarkCommon(b *testing.B) {
	e := newEstimator()
	for name, password := range map[string]string{
		"usual": "a-quiet-otter-juggles",
		"l33t":  strings.Repeat("p@ssw0rd!|17+($58", 8)[:128],
		"walk":  strings.Repeat("qwertgfdsazxcvbhy", 8)[:128],
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.common(password, "ada"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
