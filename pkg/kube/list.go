package kube

import (
	"context"
	"fmt"
	"net/url"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// pageSize bounds one answer of a list, so that neither the API server nor we
// hold a large cluster at once more often than needed.
const pageSize = "500"

// onlyMetadata asks for objects without spec and status.
const onlyMetadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

// list is a list type of Kubernetes, such as *corev1.PodList.
type list[L any] interface {
	*L
	runtime.Object
	metav1.ListInterface
}

// List reads a collection of the API page by page and hands each page on; a
// list of metav1.PartialObjectMetadata reads no more than metadata. It ends at
// the first error, with the pages before it handed on.
func List[L any, P list[L]](ctx context.Context, c *Client, path string, params url.Values, page func(P)) error {
	after := ""
	for {
		req := c.typed.Get().AbsPath(path).Timeout(c.timeout).MaxRetries(retries).Param("limit", pageSize)
		for k, vs := range params {
			for _, v := range vs {
				req = req.Param(k, v)
			}
		}
		if after != "" {
			req = req.Param("continue", after)
		}
		got := P(new(L))
		if _, ok := any(got).(*metav1.PartialObjectMetadataList); ok {
			req = req.SetHeader("Accept", onlyMetadata)
		}
		if err := req.Do(limited(ctx, c.most)).Into(got); err != nil {
			return fmt.Errorf("list %s: %w", path, err)
		}
		page(got)
		if after = got.GetContinue(); after == "" {
			return nil
		}
	}
}
