// SPDX-License-Identifier: Apache-2.0
// parity 37: signals, also after the first one, and what their handlers throw.
#include <bight/signal.hpp>

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/offload.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/shared_event.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "loop_thread.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::expect_abort;
using test::in_child;
using test::on_loop;

void (*handler_of(int number))(int) {
  struct sigaction present {};
  ::sigaction(number, nullptr, &present);
  return present.sa_handler;
}

void send_with_value(int number, int value) {
  sigval with{};
  with.sival_int = value;
  ASSERT_EQ(::sigqueue(::getpid(), number, with), 0);
}

/// ThreadSanitizer has handlers wait for a good moment, and keeps one signal of each number until then.
constexpr bool kQueuesSignals =
#if defined(BIGHT_TSAN)
    false;
#else
    true;
#endif

std::vector<int> drain(Signals& signals) {
  std::vector<int> numbers;
  while (const auto signal = signals.try_receive()) numbers.push_back(signal->number);
  return numbers;
}

TEST(Signals, AreReceived) {
  on_loop([] {
    Signals signals({SIGUSR1});
    EXPECT_FALSE(signals.try_receive());
    ::kill(::getpid(), SIGUSR1);
    const Signal signal = signals.receive();
    EXPECT_EQ(signal.number, SIGUSR1);
    EXPECT_EQ(signal.sender, ::getpid());
    EXPECT_EQ(signal.user, ::getuid());
    EXPECT_EQ(signal.code, SI_USER);
    EXPECT_FALSE(signals.try_receive());
  });
}

TEST(Signals, WakeAFiberThatWaits) {
  on_loop([] {
    Signals signals({SIGUSR1, SIGUSR2});
    auto receiver = spawn([&] { return signals.receive().number; });
    yield();
    ::raise(SIGUSR2);
    EXPECT_EQ(receiver.get(), SIGUSR2);
  });
}

TEST(Signals, WakeALoopThatSleeps) {
  on_loop([] {
    Signals signals({SIGUSR1});
    std::thread sender([target = ::getpid()] {
      timespec pause{0, 5'000'000};
      ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      ::kill(target, SIGUSR1);
    });
    EXPECT_EQ(signals.receive().number, SIGUSR1);  // nothing else is under way: and yet no deadlock
    sender.join();
  });
}

// parity 37: the second one arrives as the first did.
// By number: libc's kill(2) has ThreadSanitizer run the handlers that it has put off.
TEST(Signals, OfAFiberThatWaitsRightAfterwardsReachAnother) {
  on_loop([] {
    Signals signals({SIGUSR1});
    Scope scope;
    auto waits = scope.spawn([] {
      ::syscall(SYS_tgkill, ::getpid(), ::gettid(), SIGUSR1);
      sleep_for(1h);
    });
    EXPECT_EQ(signals.receive().number, SIGUSR1);
    waits.cancel();
  });
}

TEST(Signals, ComeAgainAndAgain) {
  on_loop([] {
    Signals signals({SIGALRM});
    int count = 0;
    ::raise(SIGALRM);
    for (const Signal& signal : signals) {
      EXPECT_EQ(signal.number, SIGALRM);
      if (++count == 3) break;
      ::raise(SIGALRM);
    }
    EXPECT_EQ(count, 3);
  });
}

// parity 37: what a handler throws arrives at main.
TEST(Signals, WhatTheirFiberThrowsReachesMain) {
  const auto ended = in_child([] {
    try {
      run([] {
        Signals alarms({SIGALRM});
        Scope scope;
        scope.spawn([&] {
          static_cast<void>(alarms.receive());
          throw std::runtime_error("alarm");
        });
        yield();
        ::raise(SIGALRM);
        scope.join();
      });
    } catch (const std::runtime_error& error) {
      return std::string(error.what()) == "alarm" ? 0 : 1;
    }
    return 2;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Signals, EqualOnesAreOneDifferentOnesKeepTheirOrder) {
  on_loop([] {
    Signals signals({SIGHUP, SIGUSR1, SIGUSR2});
    for (const int number : {SIGUSR2, SIGHUP, SIGUSR2, SIGUSR1, SIGHUP}) ::raise(number);
    EXPECT_EQ(drain(signals), (std::vector{SIGUSR2, SIGHUP, SIGUSR1}));
    ::raise(SIGUSR2);  // again, now that it has been received
    yield();           // handed out by the loop, and not received
    ::raise(SIGUSR2);
    ::raise(SIGHUP);
    EXPECT_EQ(drain(signals), (std::vector{SIGUSR2, SIGHUP}));
  });
}

TEST(Signals, RealTimeOnesQueue) {
  if (!kQueuesSignals) GTEST_SKIP() << "signals with equal numbers become one here";
  on_loop([] {
    Signals signals({SIGRTMIN, SIGRTMIN + 1, SIGUSR1});
    for (int i = 0; i < 100; ++i) {
      send_with_value(SIGRTMIN + i % 2, i);
      if (i == 50) ::raise(SIGUSR1);
    }
    int next = 0;
    int ordinary = 0;
    while (const auto signal = signals.try_receive()) {
      if (signal->number == SIGUSR1) {
        ++ordinary;
        EXPECT_EQ(next, 51);
        continue;
      }
      EXPECT_EQ(signal->number, SIGRTMIN + next % 2);
      EXPECT_EQ(signal->value, next);
      EXPECT_EQ(signal->code, SI_QUEUE);
      ++next;
    }
    EXPECT_EQ(next, 100);
    EXPECT_EQ(ordinary, 1);
  });
}

TEST(Signals, TooManyRealTimeOnesBecomeOneOfEach) {
  if (!kQueuesSignals) GTEST_SKIP() << "signals with equal numbers become one here";
  for (const bool handed_out : {false, true}) {
    on_loop([&] {
      Signals signals({SIGRTMIN, SIGRTMAX, SIGUSR1});
      for (int i = 0; i < 2000; ++i) {
        send_with_value(i % 2 == 0 ? SIGRTMIN : SIGRTMAX, i);
        if (handed_out) yield();
      }
      ::raise(SIGUSR1);
      const std::vector<int> numbers = drain(signals);
      ASSERT_EQ(numbers.size(), 960U + 1 + 2);
      EXPECT_EQ(numbers[960], SIGUSR1);
      EXPECT_EQ(numbers[961], SIGRTMIN);
      EXPECT_EQ(numbers[962], SIGRTMAX);
    });
  }
}

TEST(Signals, EachSubscriptionGetsEach) {
  on_loop([] {
    Signals one({SIGUSR1, SIGUSR2});
    Signals other({SIGUSR2});
    ::raise(SIGUSR2);
    ::raise(SIGUSR1);
    EXPECT_EQ(drain(one), (std::vector{SIGUSR2, SIGUSR1}));
    EXPECT_EQ(drain(other), (std::vector{SIGUSR2}));
  });
}

TEST(Signals, EachOfSeveralFibersGetsOne) {
  on_loop([] {
    Signals signals({SIGUSR1, SIGUSR2});
    std::vector<int> got;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] { got.push_back(i * 100 + signals.receive().number); });
    }
    yield();
    for (const int number : {SIGUSR1, SIGUSR2, SIGUSR1}) ::raise(number);  // the third one is there already
    while (got.size() < 2) yield();
    EXPECT_EQ(got, (std::vector{SIGUSR1, 100 + SIGUSR2}));
    ::raise(SIGUSR2);
    scope.join();
    EXPECT_EQ(got.back(), 200 + SIGUSR2);
  });
}

TEST(Signals, WaitingMayTimeOutOrBeCancelledAndTakesNothing) {
  on_loop([] {
    Signals signals({SIGUSR1});
    EXPECT_FALSE(signals.receive_for(2ms));
    EXPECT_FALSE(move_on_after(2ms, [&] { static_cast<void>(signals.receive()); }));
    ::raise(SIGUSR1);
    EXPECT_TRUE(signals.receive_for(1h));
    auto receiver = spawn([&] { static_cast<void>(signals.receive()); });
    yield();
    receiver.cancel();
    ::raise(SIGUSR1);
    receiver.join();
    EXPECT_EQ(receiver.status(), FiberStatus::cancelled);
    EXPECT_EQ(drain(signals), (std::vector{SIGUSR1}));
  });
}

TEST(Signals, ServedFirstACancelledFiberKeepsIts) {
  on_loop([] {
    Signals signals({SIGUSR1});
    int got = 0;
    auto receiver = spawn([&] { got = signals.receive().number; });
    yield();
    ::raise(SIGUSR1);
    EXPECT_FALSE(signals.try_receive());  // hands it out: to the one who waits
    receiver.cancel();
    receiver.join();
    EXPECT_EQ(got, SIGUSR1);
  });
}

TEST(Signals, AreACaseOfSelect) {
  on_loop([] {
    Signals signals({SIGUSR1});
    Event event;
    int got = 0;
    ::raise(SIGUSR1);
    select(event.on_set([] { FAIL(); }), signals.on_receive([&](Signal signal) { got = signal.number; }));
    EXPECT_EQ(got, SIGUSR1);
    auto waiter = spawn([&] {
      int which = 0;
      select(event.on_set([&] { which = 1; }), signals.on_receive([&] { which = 2; }));
      return which;
    });
    yield();
    ::raise(SIGUSR1);
    EXPECT_EQ(waiter.get(), 2);
    auto other = spawn([&] {
      int which = 0;
      select(event.on_set([&] { which = 1; }), signals.on_receive([&] { which = 2; }));
      return which;
    });
    yield();
    event.set();
    ::raise(SIGUSR1);
    EXPECT_EQ(other.get(), 1);
    EXPECT_EQ(drain(signals), (std::vector{SIGUSR1}));  // was not taken by the case that was not chosen
  });
}

TEST(Signals, SomeCanNotBeReceived) {
  on_loop([] {
    for (const int number :
         {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, 32, 33, 0, -1, 65, 1000}) {
      try {
        Signals signals({SIGUSR1, number});
        ADD_FAILURE() << number;
      } catch (const std::invalid_argument& error) {
        EXPECT_NE(std::string(error.what()).find("receive " + signal_name(number) + ": "), std::string::npos)
            << error.what();
      }
      EXPECT_THROW(static_cast<void>(with_signals({number}, [] {})), std::invalid_argument);
    }
    EXPECT_THROW(Signals({}), std::invalid_argument);
    EXPECT_EQ(handler_of(SIGUSR1), SIG_DFL);
  });
}

TEST(Signals, Names) {
  EXPECT_EQ(signal_name(SIGTERM), "SIGTERM");
  EXPECT_EQ(signal_name(SIGRTMIN), "SIGRTMIN");
  EXPECT_EQ(signal_name(SIGRTMIN + 3), "SIGRTMIN+3");
  EXPECT_EQ(signal_name(99), "signal 99");
  EXPECT_EQ(signal_name(-1), "signal -1");
}

// --- Dispositions ----------------------------------------------------------------------------------------------------

void own_handler(int /*number*/) {}

TEST(Signals, TheDispositionComesBackWithTheLastSubscription) {
  ::signal(SIGUSR1, own_handler);
  ::signal(SIGUSR2, SIG_IGN);
  on_loop([] {
    auto first = std::make_unique<Signals>(std::initializer_list<int>{SIGUSR1, SIGUSR2});
    auto second = std::make_unique<Signals>(std::initializer_list<int>{SIGUSR1});
    EXPECT_NE(handler_of(SIGUSR1), own_handler);
    first.reset();
    EXPECT_EQ(handler_of(SIGUSR2), SIG_IGN);
    EXPECT_NE(handler_of(SIGUSR1), own_handler);
    ::raise(SIGUSR1);
    EXPECT_EQ(drain(*second).size(), 1U);
    second.reset();
    EXPECT_EQ(handler_of(SIGUSR1), own_handler);
    {
      const Signals third({SIGUSR1});
      ::signal(SIGUSR1, SIG_IGN);  // somebody has other ideas
    }
    EXPECT_EQ(handler_of(SIGUSR1), SIG_IGN);
  });
  ::signal(SIGUSR1, SIG_DFL);
  ::signal(SIGUSR2, SIG_DFL);
}

TEST(Signals, OneThatIsPutBackByItsFinderIsHandedToTheDispositionFromBefore) {
  ::signal(SIGUSR1, SIG_IGN);
  on_loop([] {
    struct sigaction ours {};
    {
      const Signals signals({SIGUSR1});
      ::sigaction(SIGUSR1, nullptr, &ours);
    }
    ::sigaction(SIGUSR1, &ours, nullptr);
    ::raise(SIGUSR1);  // to nobody
    EXPECT_EQ(handler_of(SIGUSR1), SIG_IGN);
    ::sigaction(SIGUSR1, &ours, nullptr);
    {
      Signals signals({SIGUSR1});
      ::raise(SIGUSR1);
      EXPECT_EQ(drain(signals).size(), 1U);
    }
    EXPECT_EQ(handler_of(SIGUSR1), SIG_IGN);
  });
  ::signal(SIGUSR1, SIG_DFL);
}

TEST(Signals, AForkedChildHasTheDispositionsFromBefore) {
  on_loop([] {
    Signals signals({SIGUSR1});
    const auto child = [](auto body) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        body();
        ::_exit(0);
      }
      int status = 0;
      ::waitpid(pid, &status, 0);
      return status;
    };
    const int killed = child([] { ::raise(SIGUSR1); });
    EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGUSR1) << killed;
    const int status = child([&] {
      sigset_t mask;
      ::sigprocmask(SIG_SETMASK, nullptr, &mask);
      if (::sigismember(&mask, SIGUSR1) != 0) ::_exit(1);
      int number = 0;
      run([&] {  // a loop of its own
        Signals own({SIGUSR1});
        ::raise(SIGUSR1);
        number = own.receive().number;
      });
      signals.~Signals();  // as if the child returned from here
      ::_exit(number == SIGUSR1 ? 0 : 2);
    });
    EXPECT_EQ(status, 0);
    EXPECT_FALSE(signals.try_receive());
    ::raise(SIGUSR1);
    EXPECT_TRUE(signals.try_receive());
  });
}

// --- Loops and threads -----------------------------------------------------------------------------------------------

TEST(Signals, EveryLoopThatSubscribedGetsEach) {
  std::atomic<int> ready{0};
  std::atomic<int> got{0};
  {
    const auto receive_two = [&] {
      Signals signals({SIGUSR1, SIGUSR2});
      ++ready;
      if (signals.receive().number == SIGUSR1) ++got;
      ++ready;
      if (signals.receive().number == SIGUSR2) ++got;
    };
    const test::LoopThread one(receive_two);
    const test::LoopThread two(receive_two);
    const test::LoopThread three(receive_two);
    while (ready < 3) std::this_thread::yield();
    ::kill(::getpid(), SIGUSR1);
    while (ready < 6) std::this_thread::yield();
    ::kill(::getpid(), SIGUSR2);
  }
  EXPECT_EQ(got, 6);
  EXPECT_EQ(handler_of(SIGUSR1), SIG_DFL);
}

TEST(Signals, SubscriptionsComeAndGoInAStorm) {
  ::signal(SIGUSR1, SIG_IGN);  // for those that come between two subscriptions
  std::atomic<bool> over{false};
  std::thread storm([&] {
    sigset_t none;
    ::sigemptyset(&none);
    ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
    while (!over) {
      ::kill(::getpid(), SIGUSR1);
      std::this_thread::yield();
    }
  });
  std::atomic<int> received{0};
  {
    const auto come_and_go = [&] {
      for (int i = 0; i < 100; ++i) {
        Signals signals({SIGUSR1});
        static_cast<void>(signals.receive());
        ++received;
        if (i % 2 == 0) static_cast<void>(signals.receive_for(1ms));
      }
    };
    const test::LoopThread one(come_and_go);
    const test::LoopThread two(come_and_go);
  }
  over = true;
  storm.join();
  EXPECT_EQ(received, 200);
  EXPECT_EQ(handler_of(SIGUSR1), SIG_IGN);
  ::signal(SIGUSR1, SIG_DFL);
}

TEST(Signals, WhoComesWhenTheLastOneGoesIsNotLeftDeaf) {
  ::signal(SIGUSR1, SIG_IGN);
  std::atomic<int> running{2};
  std::atomic<int> deaf{0};
  {
    const auto come_and_go = [&] {
      for (int i = 0; i < 3000; ++i) {
        const Signals signals({SIGUSR1});
        ::kill(::getpid(), SIGUSR1);  // who of the two takes it up may find that nobody wants it
        if (handler_of(SIGUSR1) == SIG_IGN) ++deaf;
      }
      --running;
    };
    const test::LoopThread one(come_and_go);
    const test::LoopThread two(come_and_go);
    while (running > 0) {
      ::kill(::getpid(), SIGUSR1);
      std::this_thread::yield();
    }
  }
  EXPECT_EQ(deaf, 0);
  EXPECT_EQ(handler_of(SIGUSR1), SIG_IGN);
  ::signal(SIGUSR1, SIG_DFL);
}

TEST(Signals, DifferentOnesAreNotLostInAStorm) {
  if (!kQueuesSignals) GTEST_SKIP() << "signals with equal numbers become one here";
  on_loop([&] {
    Signals signals({SIGUSR1, SIGUSR2, SIGRTMIN});
    std::vector<std::thread> senders;
    SharedEvent ended;
    std::atomic<int> left{3};
    for (int i = 0; i < 3; ++i) {
      senders.emplace_back([&] {
        for (int k = 0; k < 300; ++k) {
          ::kill(::getpid(), k % 2 == 0 ? SIGUSR1 : SIGUSR2);
          sigval with{};
          with.sival_int = 1;
          while (::sigqueue(::getpid(), SIGRTMIN, with) != 0) std::this_thread::yield();
        }
        if (--left == 0) ended.set();
      });
    }
    int real_time = 0;
    int one = 0;
    int two = 0;
    while (real_time < 900) {
      const Signal signal = signals.receive();
      if (signal.number == SIGRTMIN) real_time += signal.value;
      one += signal.number == SIGUSR1 ? 1 : 0;
      two += signal.number == SIGUSR2 ? 1 : 0;
    }
    ended.wait();
    for (auto& each : senders) each.join();
    EXPECT_GE(one, 1);
    EXPECT_GE(two, 1);
    static_cast<void>(drain(signals));
  });
}

// --- Deadlocks -------------------------------------------------------------------------------------------------------

TEST(Signals, ASubscriptionThatNobodyWaitsForDoesNotHideADeadlock) {
  EXPECT_THROW(run(RunOptions{.stop_on_signals = false},
                   [] {
                     const Signals signals({SIGUSR1});
                     Event never;
                     never.wait();
                   }),
               Deadlock);
}

TEST(Signals, AWaitInsideWithSignalsIsNoDeadlock) {
  on_loop([] {
    std::thread sender([target = ::getpid()] {
      timespec pause{0, 20'000'000};
      ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      ::kill(target, SIGUSR1);
    });
    EXPECT_EQ(with_signals({SIGUSR1}, [] { Event().wait(); }), SIGUSR1);
    sender.join();
  });
}

// As with gevent's, a handler keeps no loop alive.
TEST(Signals, ADaemonThatWaitsForThemKeepsNoLoop) {
  run([] {
    SpawnOptions daemon;
    daemon.daemon = true;
    static_cast<void>(spawn(daemon, [] {
      Signals signals({SIGUSR1});
      static_cast<void>(signals.receive());
    }));
    yield();
    EXPECT_NE(handler_of(SIGUSR1), SIG_DFL);
  });
  EXPECT_EQ(handler_of(SIGUSR1), SIG_DFL);
}

// --- with_signals ----------------------------------------------------------------------------------------------------

TEST(WithSignals, CancelsTheBody) {
  on_loop([] {
    bool unwound = false;
    const auto number = with_signals({SIGTERM, SIGUSR1}, [&] {
      struct Note {
        bool& flag;
        ~Note() { flag = true; }
      } note{unwound};
      auto other = spawn([] { ::raise(SIGUSR1); });
      other.join();
      sleep_for(1h);
      ADD_FAILURE();
    });
    EXPECT_EQ(number, SIGUSR1);
    EXPECT_TRUE(unwound);
    EXPECT_EQ(handler_of(SIGUSR1), SIG_DFL);
    yield();  // nothing of it is left
  });
}

TEST(WithSignals, SaysNothingWhenNoneCame) {
  on_loop([] {
    int result = 0;
    EXPECT_EQ(with_signals({SIGUSR1},
                           [&] {
                             yield();
                             result = 7;
                             return result;
                           }),
              std::nullopt);
    EXPECT_EQ(result, 7);
  });
}

TEST(WithSignals, OverlooksNoneThatComesAtTheEnd) {
  on_loop([] {
    EXPECT_EQ(with_signals({SIGUSR1}, [] { ::raise(SIGUSR1); }), SIGUSR1);
    EXPECT_EQ(with_signals({SIGUSR1, SIGUSR2},
                           [] {
                             ::raise(SIGUSR2);
                             ::raise(SIGUSR1);
                           }),
              SIGUSR2);  // the first one
  });
}

TEST(WithSignals, LetsErrorsPass) {
  on_loop([] {
    EXPECT_THROW(static_cast<void>(with_signals({SIGUSR1}, [] { throw std::runtime_error("no"); })),
                 std::runtime_error);
    EXPECT_EQ(handler_of(SIGUSR1), SIG_DFL);
    yield();
  });
}

TEST(WithSignals, CoversTheFibersOfAScopeInside) {
  on_loop([] {
    int ended = 0;
    EXPECT_EQ(with_signals({SIGUSR1},
                           [&] {
                             Scope scope;
                             for (int i = 0; i < 3; ++i) {
                               scope.spawn([&] {
                                 try {
                                   sleep_for(1h);
                                 } catch (const Cancelled&) {
                                   ++ended;
                                   throw;
                                 }
                               });
                             }
                             yield();
                             ::raise(SIGUSR1);
                             scope.join();
                           }),
              SIGUSR1);
    EXPECT_EQ(ended, 3);
  });
}

TEST(WithSignals, NestedOnesEndTheirOwn) {
  on_loop([] {
    bool went_on = false;
    EXPECT_EQ(with_signals({SIGUSR1},
                           [&] {
                             EXPECT_EQ(with_signals({SIGUSR2},
                                                    [] {
                                                      ::raise(SIGUSR2);
                                                      sleep_for(1h);
                                                    }),
                                       SIGUSR2);
                             yield();
                             went_on = true;
                             EXPECT_EQ(with_signals({SIGUSR2},
                                                    [] {
                                                      ::raise(SIGUSR1);
                                                      sleep_for(1h);
                                                    }),
                                       std::nullopt);
                             ADD_FAILURE();
                           }),
              SIGUSR1);
    EXPECT_TRUE(went_on);
  });
}

TEST(WithSignals, OfTwoForTheSameTheOuterOneReturns) {
  on_loop([] {
    bool inner = false;
    EXPECT_EQ(with_signals({SIGUSR1},
                           [&] {
                             static_cast<void>(with_signals({SIGUSR1}, [] {
                               ::raise(SIGUSR1);
                               sleep_for(1h);
                             }));
                             inner = true;
                           }),
              SIGUSR1);
    EXPECT_FALSE(inner);
  });
}

TEST(WithSignals, AShieldHoldsThemOff) {
  on_loop([] {
    bool said_goodbye = false;
    EXPECT_EQ(with_signals({SIGUSR1},
                           [&] {
                             {
                               const Shield shield;
                               ::raise(SIGUSR1);
                               sleep_for(2ms);
                               said_goodbye = true;
                             }
                             sleep_for(1h);
                           }),
              SIGUSR1);
    EXPECT_TRUE(said_goodbye);
  });
}

TEST(WithSignals, OutsideOfItOthersCancelAsEver) {
  on_loop([] {
    EXPECT_FALSE(move_on_after(2ms, [] { static_cast<void>(with_signals({SIGUSR1}, [] { sleep_for(1h); })); }));
    EXPECT_EQ(with_signals({SIGUSR1},
                           [] {
                             EXPECT_FALSE(move_on_after(1ms, [] { sleep_for(1h); }));
                             ::raise(SIGUSR1);
                             EXPECT_FALSE(move_on_after(1h, [] { sleep_for(1h); }));
                           }),
              SIGUSR1);
  });
}

// --- Requests to stop ------------------------------------------------------------------------------------------------

TEST(Signals, TakeStopsFromTheLoopWhileTheyLive) {
  const auto ended = in_child([] {
    return run([] {
      if (test::on_sim()) return 77;
      auto server = spawn([] {
        wait_for_stop();
        return 0;
      });
      yield();
      {
        Signals signals({SIGTERM});
        ::raise(SIGTERM);
        if (signals.receive().number != SIGTERM || stop_requested()) return 1;
        ::raise(SIGTERM);  // is gone with the subscription
      }
      sleep_for(1ms);
      if (stop_requested()) return 2;
      const Signals others({SIGHUP});
      ::raise(SIGTERM);
      return server.get();
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "no request to stop comes from outside a simulated world";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST(Signals, OfAnotherLoopTakeThemToo) {
  const auto ended = in_child([] {
    return run([] {
      if (test::on_sim()) return 77;
      auto server = spawn([] {
        wait_for_stop();
        return 0;
      });
      bool got = false;
      std::thread([&] {
        run([&] {
          Signals signals({SIGINT});
          ::kill(::getpid(), SIGINT);
          got = signals.receive().number == SIGINT;
        });
      }).join();
      sleep_for(1ms);
      if (!got || stop_requested()) return 1;
      ::raise(SIGINT);
      return server.get();
    });
  });
  if (ended.with(77)) GTEST_SKIP() << "no request to stop comes from outside a simulated world";
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// --- Misuse ----------------------------------------------------------------------------------------------------------

TEST(Signals, AreOfTheirLoop) {
  expect_abort("belong to the loop that they were made on", [] {
    Signals signals({SIGUSR1});
    std::thread([&] { static_cast<void>(signals.try_receive()); }).join();
  });
  expect_abort("a Signals is destroyed while fibers wait for it", [] {
    auto signals = std::make_unique<Signals>(std::initializer_list<int>{SIGUSR1});
    auto receiver = spawn([&] { static_cast<void>(signals->receive()); });
    yield();
    signals.reset();
  });
  const auto ended = in_child([] {
    std::optional<Signals> signals;
    run([&] { signals.emplace(std::initializer_list<int>{SIGUSR1}); });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT) && ended.says("outlives its loop")) << describe(ended);
}

}  // namespace
}  // namespace bight
