-- Included by every script: names of keys, the clock, gathered writes, answers to repeated calls.
-- KEYS[1] is the store's hash tag; every key begins with it, so that all of them lie in one slot.
-- A script is atomic: nothing of another client's comes between its commands. But nothing is rolled
-- back if it fails, so whatever may fail is checked before the first write.

local P = KEYS[1] .. ':'
local INF = math.huge

-- Keys:
--   i:<id>           the row of an instance; what it has not is missing or ''. `deaths` is there
--                    for suspects alone; `first` is the execution with which its life began, if not 1
--   x:<id>           its inbox: number -> '<execution or nothing>@<when it came>:<event>', where what
--                    schema 2 wrote has no '@' and no time
--   t:<id>:<number>  the turns of one execution
--   a/<life>:<id>    the activities of one life: '<execution>:<command>' -> a packed row, see
--                    activities.lua;  a:<id>  where the life is ''
--   r:<id>           the requests of all lives of an id: '<life>:<request>' -> '' until there is an
--                    answer, then '=' and the answer
--   q:<question>     a question: instance, life, question, worker and answer, where there is one
--   questions        those that no worker has been given, by the time when they expire
--   e:<id>           what is kept of ended executions: number -> how it ended and the row, packed
--   ended            all of those, '<number>:<id>', by the time when they ended
--   children:<id>    sub-workflows by seq
--   status:<status>  instances by seq; each is in exactly one
--   workflow:<name>  instances by seq; not those after the number in `listed`, and perhaps some that are
--                    gone, where an older trioflow was the last to store or to remove
--   finished         finished instances by the time when they finished
--   ready<lane>      free instances by ready_at; those without one are in no such set
--   suspect<lane>    likewise those that are suspects
--   held:<worker>    leased instances by ready_at, infinity for null
--   visible<lane>    free activities by visible_at; those that have a key, see `lane_name`
--   keys:<queue>     these keys
--   retried          activities whose attempt is above 1, all with the score 0; not those that an
--                    older trioflow has stored last
--   limits, limit:<…>, admitted:<…>, kept:<…>  see limiting.lua
--   shared, claim:<…>, claims:<…>, claims-of:<…>  see sharing.lua
--   lanes:<queue>    the priorities that occur besides 0, of instances and activities
--   running:<worker> leased activities;  marked:<worker>  those of them to be cancelled
--   is:<…>           instances that have one value of an attribute, by seq; see `word_key`
--   iq:<attribute>   instances by the number that an attribute has
--   workers          by heartbeat;  names  of workers, gone only when what they held is free
--   serves           of a worker: its queues, those of its activities, its lease and its version,
--                    packed; not there for a worker that runs an older trioflow, or without a version
--   started          of a worker: when it registered
--   numbers          '<what>:<queue>' -> how many;  queues  every queue that had anything
--   seq, message     the last numbers given;  listed  up to where instances are in workflow:<name>;  done:<nonce>  an answer that may have been lost

-- The server's clock. Leases and visibility are judged by it alone, so that a worker with a wrong
-- clock steals nothing; it is read once, so that all of a script happens at one time.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local now = clock()

-- Write a number without loss; tostring() would round it. Names are never formatted, since that
-- would end them at a NUL.
local function exact(number)
  return string.format('%.17g', number)
end

local now_exact = exact(now)

-- Return the end of the keys of what waits in a queue with a priority, which may be missing for 0.
local function lane(queue, priority)
  priority = tonumber(priority) or 0
  return priority == 0 and ':' .. queue or '/' .. priority .. ':' .. queue
end

-- Return the sorted set in which a free instance waits.
local function place_of(queue, priority, suspect)
  return (suspect and 'suspect' or 'ready') .. lane(queue, priority)
end

-- Return whether a worker's lease is alive: it has a row until it is expired or released.
local function alive(worker)
  return redis.call('ZSCORE', P .. 'workers', worker)
end

-- Gather writes of one kind to one key, to be sent together: a call costs more than its arguments.
-- Removals go first, so that what leaves one place may arrive in the same place again.
local gathered = { {}, {} }

local function gather(round, command, key, a, b)
  local of_round = gathered[round]
  local name = command .. key
  local entry = of_round[name]
  if not entry then
    entry = { command, P .. key }
    of_round[name] = entry
    of_round[#of_round + 1] = entry
  end
  entry[#entry + 1] = a
  if b ~= nil then
    entry[#entry + 1] = b
  end
end

local function zadd(key, score, member)
  gather(2, 'ZADD', key, score, member)
end

local function zrem(key, member)
  gather(1, 'ZREM', key, member)
end

local function sadd(key, member)
  gather(2, 'SADD', key, member)
end

local function srem(key, member)
  gather(1, 'SREM', key, member)
end

-- Like `lane`, for a queue and a priority that may not have occurred before.
local function open_lane(queue, priority)
  priority = tonumber(priority) or 0
  if priority ~= 0 then
    sadd('lanes:' .. queue, priority)
  end
  return lane(queue, priority)
end

local counted = {}

local function count(what, queue, by)
  local name = what .. ':' .. queue
  counted[name] = (counted[name] or 0) + by
end

local numbers = {}

local function turns_key(id, execution)
  return P .. 't:' .. id .. ':' .. execution
end

-- Return the next number of 'seq' or 'message', which is never given twice.
local function next_number(name)
  local last = numbers[name] or tonumber(redis.call('GET', P .. name) or 0)
  numbers[name] = last + 1
  return last + 1
end

-- Return the number of a new instance, which is listed with its workflow, too.
local function next_listed()
  local before = numbers.seq or tonumber(redis.call('GET', P .. 'seq') or 0)
  local listed = numbers.listed or tonumber(redis.call('GET', P .. 'listed') or 0)
  local seq = next_number('seq')
  if listed == before then
    numbers.listed = seq
  end
  return seq
end

-- Call a command with many arguments, in parts of an even number that fit on the stack.
local function call_many(command, key, arguments, from)
  local last = #arguments
  while from <= last do
    local to = math.min(from + 999, last)
    redis.call(command, key, unpack(arguments, from, to))
    from = to + 1
  end
end

local function flush()
  for round = 1, 2 do
    for _, entry in ipairs(gathered[round]) do
      call_many(entry[1], entry[2], entry, 3)
    end
    gathered[round] = {}
  end
  for name, by in pairs(counted) do
    if by ~= 0 and redis.call('HINCRBY', P .. 'numbers', name, by) == 0 then
      redis.call('HDEL', P .. 'numbers', name)
    end
  end
  counted = {}
  for name, last in pairs(numbers) do
    redis.call('SET', P .. name, exact(last))
  end
  numbers = {}
end

-- Return whether a life is the one that is meant: '' for any, or '=' and its name.
local function is_meant(life, meant)
  return meant == '' or meant == '=' .. (life or '')
end

-- Return the answer that a repeated call was given the first time, or nil.
-- A client whose connection breaks does not know whether its call was made, and repeats it with the
-- same nonce. The answer to every write is kept under its nonce for a minute, so that the repeated
-- call changes nothing.
local function answered(nonce, again)
  if again ~= '1' then
    return nil
  end
  local stored = redis.call('GET', P .. 'done:' .. nonce)
  return stored and cmsgpack.unpack(stored) or nil
end

local function answer(nonce, reply)
  redis.call('SET', P .. 'done:' .. nonce, cmsgpack.pack(reply), 'EX', 60)
  return reply
end

-- The index of attributes has rows of name, word, and for what has an order a number; see
-- trioflow/_model/attributes.py. Those of an instance are kept, packed, in the field `indexed`.
local function word_key(name, word)
  return 'is:' .. #name .. ':' .. name .. word
end

local function each_indexed(packed, visit)
  if packed and packed ~= '' then
    for _, row in ipairs(cmsgpack.unpack(packed)) do
      visit(row[1], row[2], row[3])
    end
  end
end

local function publish(source)
  redis.call('PUBLISH', P .. 'changes', source)
end
