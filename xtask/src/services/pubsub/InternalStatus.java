package io.grpc;

/**
 * Stands before the class of the same name in the jar of Google's Pub/Sub emulator, which lacks a method that
 * the emulator's own code calls: when a client cancels a streaming pull, the missing method takes the
 * subscription's thread with it, and the next stream gets nothing.
 */
public final class InternalStatus {
    public static final Metadata.Key<String> MESSAGE_KEY = Status.MESSAGE_KEY;
    public static final Metadata.Key<Status> CODE_KEY = Status.CODE_KEY;

    private InternalStatus() {}

    /** The method that is missing. */
    public static StatusRuntimeException asRuntimeException(
            Status status, Metadata trailers, boolean withStackTrace) {
        if (withStackTrace) {
            return new StatusRuntimeException(status, trailers);
        }
        return new InternalStatusRuntimeException(status, trailers);
    }

    public static StatusRuntimeException asRuntimeExceptionWithoutStacktrace(
            Status status, Metadata trailers) {
        return asRuntimeException(status, trailers, false);
    }
}
