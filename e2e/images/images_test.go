// Package images_test builds every function's image as a release does, and looks at what came out. It needs no cluster and
// no network: the registry is in this process.
package images_test

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

const root = "../.."

// Compressed sizes in bytes, which a node pulls before a first cold start.
const (
	megabyte     = 1_000_000
	endpointSize = 15 * megabyte
	watcherSize  = 25 * megabyte // links a Kubernetes client
)

var watchers = map[string]bool{"edge": true, "steer": true}

func TestImages(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	run(t, ".", nil, "go", "run", "./baseimage", host+"/base:latest")

	// ko starts a go build for each image and platform, and two of them would compile the same packages side by side.
	for _, architecture := range []string{"amd64", "arm64"} {
		run(t, root, []string{"GOARCH=" + architecture, "CGO_ENABLED=0"}, "go", "list", "-trimpath", "-export", "-deps", "-f", `{{""}}`, "./functions/...")
	}
	first := build(t, root, host)
	for function, reference := range first {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			check(t, function, reference)
		})
	}
	t.Run("the same files elsewhere give the same digests", func(t *testing.T) {
		t.Parallel()
		if diff := cmp.Diff(first, build(t, copyOf(t, root), host)); diff != "" {
			t.Errorf("the second build differs:\n%s", diff)
		}
	})
}

// check holds one function's image to what is promised of it, for each platform.
func check(t *testing.T, function, reference string) {
	t.Helper()
	digest, err := name.NewDigest(reference)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, image := range manifest.Manifests {
		platforms = append(platforms, image.Platform.String())
		limit := endpointSize
		if watchers[function] {
			limit = watcherSize
		}
		if size := compressed(t, index, image.Digest); size > int64(limit) {
			t.Errorf("%s for %s has %.1f MB compressed: expected %d MB at most", function, image.Platform, float64(size)/megabyte, limit/megabyte)
		} else {
			t.Logf("%s for %s: %.1f MB", function, image.Platform, float64(size)/megabyte)
		}
		sbom(t, digest, image.Digest)
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms differ:\n%s", diff)
	}
}

func compressed(t *testing.T, index v1.ImageIndex, digest v1.Hash) (size int64) {
	t.Helper()
	image, err := index.Image(digest)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if user := configuration(t, image).User; user != "65532:65532" {
		t.Errorf("it runs as %q: expected 65532:65532", user)
	}
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size
}

func configuration(t *testing.T, image v1.Image) v1.Config {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return file.Config
}

// sbom expects a bill of materials where ko and cosign put one: under a tag made from the image's digest.
func sbom(t *testing.T, repository name.Digest, digest v1.Hash) {
	t.Helper()
	image, err := remote.Image(repository.Tag(digest.Algorithm + "-" + digest.Hex + ".sbom"))
	if err != nil {
		t.Fatalf("no SBOM: %v", err)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("the SBOM has %d layers (%v): expected 1", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(content)
	if err != nil || !bytes.Contains(text, []byte(`"spdxVersion"`)) || !bytes.Contains(text, []byte("pkg:golang/github.com/rs/zerolog@")) {
		t.Errorf("the SBOM (%v) is not SPDX that names what is linked: %.200s", err, text)
	}
}

// build builds every function and returns its image with its digest, by name.
func build(t *testing.T, folder, host string) map[string]string {
	t.Helper()
	mains, err := filepath.Glob(filepath.Join(folder, "functions", "*", "main.go"))
	if err != nil || len(mains) == 0 {
		t.Fatalf("no functions in %s: %v", folder, err)
	}
	tool, err := filepath.Abs(filepath.Join(root, "tools", "ko", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	arguments := []string{"tool", "-modfile=" + tool, "ko", "build", "--base-import-paths", "--platform=linux/amd64,linux/arm64"}
	for _, main := range mains {
		arguments = append(arguments, "./functions/"+filepath.Base(filepath.Dir(main)))
	}
	output := run(t, folder, []string{"KO_CONFIG_PATH=ko.yaml", "KO_DOCKER_REPO=" + host, "KO_DEFAULTBASEIMAGE=" + host + "/base:latest"}, "go", arguments...)
	built := make(map[string]string)
	for reference := range strings.FieldsSeq(output) {
		repository, _, _ := strings.Cut(reference, "@")
		built[path.Base(repository)] = reference
	}
	if len(built) != len(mains) {
		t.Fatalf("%d images of %d functions: %s", len(built), len(mains), output)
	}
	return built
}

// copyOf is what git has or would have of a folder, without git's own: a build must not depend on where it happens.
func copyOf(t *testing.T, folder string) string {
	t.Helper()
	elsewhere := t.TempDir()
	for file := range strings.SplitSeq(strings.TrimRight(run(t, folder, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		target := filepath.Join(elsewhere, file)
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			t.Fatal(err)
		}
		if link, err := os.Readlink(filepath.Join(folder, file)); err == nil {
			if err := os.Symlink(link, target); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return elsewhere
}

func run(t *testing.T, folder string, environment []string, program string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Dir = folder
	command.Env = append(os.Environ(), environment...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, stderr.Bytes())
	}
	return string(output)
}
